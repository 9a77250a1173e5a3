package election

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// apply writes change, unless err is not nil.
func (e electionRows) apply(ctx context.Context, change change, err error) error {
	switch {
	case err != nil:
	case change.newLeader || change.version == 0 || change.member.id != "":
		err = e.applyWhole(ctx, change)
		class := dialect.Classify(err)
		if errors.Is(err, errors.ErrUnsupported) || class.Undone() || class == dialect.Stale || class == dialect.Conflict {
			err = e.applyStepwise(ctx, change)
		}
	default:
		err = e.renewRecord(ctx, change)
	}
	if dialect.NoRoom(err) {
		err = fmt.Errorf("the columns of the table cannot hold it as it is: %w", err)
	}
	if err != nil {
		return fmt.Errorf("election: update %v from version %d: %w", e, change.version, err)
	}
	return nil
}

// applyWhole sends a change of leader as a whole, in one round trip, while nobody is in its
// way. Its error wraps errors.ErrUnsupported where that cannot be done, or some row is missing,
// and is of class Retry where somebody is, or Stale, or Conflict where a new row's key is taken;
// nothing is changed then, but that empty rows may be there.
func (e electionRows) applyWhole(ctx context.Context, c change) error {
	if !c.newLeader || !e.grown.Load() {
		return errors.ErrUnsupported
	}
	var statements []dialect.Statement // in the order of replace
	if c.version == 0 {
		statements = append(statements, e.rowInsert(leaderRowID, leaderSlot), e.rowInsert(recordRowID, recordSlot))
	}
	statements = append(statements, e.leaderUpdate(c), e.stripesUpdate(c))
	switch {
	case c.member.id == "":
	case c.member.from == nil:
		statements = append(statements, e.memberInsert(c.member))
	default:
		statements = append(statements, e.memberUpdate(c.member))
	}
	err := sqldb.Transact(ctx, e.db, e.dialect, dialect.Transaction{
		Table: e.quoted, Name: e.election, Statements: append(statements, e.recordUpdate(c)),
	})
	if err == nil {
		e.announce(c)
	}
	return err
}

func (e electionRows) applyStepwise(ctx context.Context, c change) error {
	if c.version == 0 {
		if err := sqldb.Retry(ctx, func() error {
			return sqldb.OnConn(ctx, e.db, e.dialect, func(q sqldb.Execer) error { return e.uncreated(ctx, q) })
		}); err != nil {
			return err
		}
	}
	wait := lockWait(ctx)
	options := e.txOptions(wait)
	options.Committed = func() { e.announce(c) }
	open := func(context.Context) {}
	if c.newLeader {
		options, open = e.gated(options)
	}
	err := e.inTx(ctx, options, func(tx *sql.Tx) error {
		first := func() error { return e.dialect.Bound(ctx, tx, wait) }
		if c.newLeader || c.version == 0 {
			first = func() error { return e.dialect.Gate(ctx, tx, e.quoted, e.election, wait) }
		}
		if err := first(); err != nil {
			return err
		}
		return e.replace(ctx, tx, c)
	})
	open(ctx)
	return err
}

// renewRecord is one statement and touches one row, so that it neither waits for
// guarded transactions nor holds them up; or it is part of a statement that skips the
// rows that it would have to wait for.
func (e electionRows) renewRecord(ctx context.Context, c change) error {
	renewed, err := e.renewTogether(ctx, renewal{e.election, recordSlot, c.version, c.version + 1, c.leaderID, c.text})
	if renewed || err != nil {
		return err
	}
	return e.write(ctx, func(q sqldb.Execer) error { return e.writeRecord(ctx, q, c) })
}

// txOptions are for a transaction that writes several rows, and waits for wait at
// most.
func (e electionRows) txOptions(wait time.Duration) sqldb.TxOptions {
	return sqldb.TxOptions{
		Isolation: e.dialect.Isolation, Prepare: e.dialect.Prepare(), Wait: wait, Savepoint: e.dialect.Savepoint,
	}
}

// inTx is sqldb.InTx for a transaction of the elections' own.
func (t *electionTable) inTx(ctx context.Context, options sqldb.TxOptions, body func(*sql.Tx) error) error {
	return t.turns.Own(func() error { return sqldb.InTx(ctx, t.db, options, body) })
}

// lockWait is for how long a change of leader may wait on the server: a little
// less than for what the caller waits, so that it hears of the server's own end
// of it.
func lockWait(ctx context.Context) time.Duration {
	wait := sqldb.RetryLimit
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	return wait * 9 / 10
}

// change is an Update with everything in the form in which it is stored.
type change struct {
	leaderID  string
	text      any
	version   int64 // the stored one, to be replaced by version + 1
	term      int64
	newLeader bool
	member    memberChange
}

func newChange(r *Record, isLeaderChanged bool) (c change, err error) {
	if r == nil {
		return c, errors.New("record must not be nil")
	}
	c = change{leaderID: r.LeaderID, version: r.Version, newLeader: isLeaderChanged}
	switch {
	case r.Version < 0 || r.Version == math.MaxInt64:
		return c, fmt.Errorf("Version must be at least 0 and below the largest int64, is %d", r.Version)
	case r.Term > math.MaxInt64:
		return c, fmt.Errorf("Term must fit into an int64, is %d", r.Term)
	}
	if err := checkText("LeaderID", r.LeaderID, maxIDBytes); err != nil {
		return c, err
	}
	c.term = int64(r.Term)
	if r.Term == 0 {
		c.term = r.Version + 1 // as members that know no terms number them
	}
	c.text, err = r.Value()
	return c, err
}

// replace writes every row that c concerns, in the order that all writers of
// this table keep: leader row, guard rows, member row, record row last, so that
// nobody's renewal waits for a change that itself waits for a guarded transaction.
func (e electionRows) replace(ctx context.Context, tx *sql.Tx, c change) error {
	if c.version == 0 {
		if err := e.create(ctx, tx); err != nil {
			return err
		}
	}
	if c.newLeader {
		if err := e.writeLeader(ctx, tx, c); err != nil {
			return err
		}
	}
	if err := e.writeMember(ctx, tx, c.member); err != nil {
		return err
	}
	return e.writeRecord(ctx, tx, c)
}

// create inserts both rows where they are missing, as they are before any
// Update. Insert first, lock later: locking a row that is not there makes two
// creators deadlock on some engines.
func (e electionRows) create(ctx context.Context, tx *sql.Tx) error {
	if err := e.insert(ctx, tx, leaderRowID, leaderSlot, "", 0); err != nil {
		return err
	}
	if err := e.uncreated(ctx, tx); err != nil { // the insert has waited for whoever creates it
		return err
	}
	err := e.insert(ctx, tx, recordRowID, recordSlot, "", 0)
	if dialect.Classify(err) == dialect.Conflict {
		return fmt.Errorf("%w: %w", ErrRecordConflict, err)
	}
	return err
}

// uncreated returns ErrRecordConflict if the record is there, as it is after any Update.
// Members that come to an empty table all try to create the record, and all but one in
// vain: that shall cost them little, and the one no time, as transactions that write the
// same rows only to lose wait for each other on every engine.
func (e electionRows) uncreated(ctx context.Context, q sqldb.Execer) error {
	r := e.recordRow()
	r.where += " AND version > 0"
	n, err := e.count(ctx, q, r)
	if err == nil && n > 0 {
		err = fmt.Errorf("it was created meanwhile: %w", ErrRecordConflict)
	}
	return err
}

// errRowMissing: the leader row was deleted by hand.
var errRowMissing = fmt.Errorf("the leader row is missing: %w", errors.ErrUnsupported)

// writeLeader puts the new reign where guarded transactions look for it: into
// the leader row and every guard row that exists, whatever this member's own
// guarded transactions would use.
func (e electionRows) writeLeader(ctx context.Context, tx *sql.Tx, c change) error {
	err := e.exec(ctx, tx, e.leaderUpdate(c))
	if errors.Is(err, errRowMissing) {
		err = e.insert(ctx, tx, leaderRowID, leaderSlot, c.leaderID, c.term)
	}
	if err != nil {
		return err
	}
	return e.writeStripes(ctx, tx, c)
}

func (e electionRows) leaderUpdate(c change) dialect.Statement {
	r := e.leaderRow()
	return dialect.Statement{
		Write: "UPDATE % SET leader_id = ?, version = ?", Args: []any{c.leaderID, c.term}, Where: r.where, Rows: r.args,
		Missed: errRowMissing,
	}
}

func (e electionRows) writeRecord(ctx context.Context, q sqldb.Execer, c change) error {
	return e.exec(ctx, q, e.recordUpdate(c))
}

// recordUpdate replaces the record row if it still holds the version that c
// replaces. The version changes with every write, so that engines that count
// changed rows and those that count matched rows agree.
func (e electionRows) recordUpdate(c change) dialect.Statement {
	r := e.recordRow()
	version, args := e.dialect.Written("id", c.version+1, writtenTexts(c.leaderID, c.text)...)
	return dialect.Statement{
		Write: e.dialect.BoundedWrite + "UPDATE % SET leader_id = ?, record = ?, version = " + version,
		Args:  append([]any{c.leaderID, c.text}, args...),
		Where: r.where + " AND version = ?", Rows: append(r.args, c.version), Missed: ErrRecordConflict,
	}
}

// exec runs s alone.
func (e electionRows) exec(ctx context.Context, q sqldb.Execer, s dialect.Statement) error {
	query, args := s.Query()
	n, err := sqldb.Exec(ctx, q, e.sql(query), e.dialect.Args(args...)...)
	if err == nil && n == 0 {
		err = s.Missed
	}
	return err
}

package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// Update replaces the record row if it still has the version of c; with a new leader, the leader
// row too. If another version is stored, nothing is written and the error wraps ErrConflict. A
// renewal is one statement, everything else is one transaction. Update retries as Get does.
func (e Election) Update(ctx context.Context, c Change) error {
	err := e.checkUsable(ctx)
	if err == nil && c.Member.ID != "" {
		err = e.checkMemberRowsWritable(ctx)
	}
	switch {
	case err != nil:
	case c.LeaderChanged || c.Version == 0 || c.Member.ID != "":
		err = e.changeInOneTrip(ctx, c)
		class := dialect.Classify(err)
		if errors.Is(err, errors.ErrUnsupported) || class.Undone() || class == dialect.Stale || class == dialect.Conflict {
			err = e.changeInTransaction(ctx, c)
		}
	default:
		err = e.renewRecord(ctx, c)
	}
	if dialect.NoRoom(err) {
		err = fmt.Errorf("the columns of the table cannot hold it as it is: %w", err)
	}
	if err != nil {
		return e.Updating(c.Version, err)
	}
	return nil
}

// Updating wraps err as the error of an Update that was to replace version.
func (e Election) Updating(version int64, err error) error {
	return fmt.Errorf("election: update %v from version %d: %w", e, version, err)
}

// changeInOneTrip sends a change of leader as a whole, in one round trip. It works only while no
// other transaction is in its way. After these errors nothing is changed, except that empty rows
// may have been added, and changeInTransaction can make the change:
//
//   - one wrapping errors.ErrUnsupported: the engine or connection cannot do it, or a row is
//     missing
//   - one of a class that is Undone: another transaction is in the way
//   - one of class Conflict: a new row's key is taken
//   - one of class Stale
func (e Election) changeInOneTrip(ctx context.Context, c Change) error {
	if !c.LeaderChanged || !e.grown.Load() {
		return errors.ErrUnsupported
	}
	var statements []dialect.Statement // in the order in which replace writes
	if c.Version == 0 {
		statements = append(statements, e.rowInsert(leaderRowID, leaderSlot), e.rowInsert(recordRowID, recordSlot))
	}
	statements = append(statements, e.leaderUpdate(c), e.stripesUpdate(c))
	switch {
	case c.Member.ID == "":
	case c.Member.From == nil:
		statements = append(statements, e.memberInsert(c.Member))
	default:
		statements = append(statements, e.memberUpdate(c.Member))
	}
	err := sqldb.ChangeInOneTrip(ctx, e.db, e.dialect, dialect.BatchedChange{
		Table: e.quoted, Name: e.election, Statements: append(statements, e.recordUpdate(c)),
	})
	if err == nil {
		e.announce(c)
	}
	return err
}

func (e Election) changeInTransaction(ctx context.Context, c Change) error {
	if c.Version == 0 {
		if err := sqldb.Retry(ctx, func() error {
			return sqldb.OnConn(ctx, e.db, e.dialect, func(q sqldb.Execer) error { return e.errIfCreated(ctx, q) })
		}); err != nil {
			return err
		}
	}
	wait := lockWait(ctx)
	options := e.txOptions(wait)
	options.Committed = func() { e.announce(c) }
	open := func(context.Context) {}
	if c.LeaderChanged {
		options, open = e.closingGateOnRetry(options)
	}
	err := e.inTx(ctx, options, func(tx *sql.Tx) error {
		first := func() error { return e.dialect.SetTimeouts(ctx, tx, wait) }
		if c.LeaderChanged || c.Version == 0 {
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

// renewRecord is one statement and touches one row. So it does not wait for guarded transactions,
// which hold another row, and does not hold them up. If it is part of a batch, the statement skips
// the rows that it would have to wait for.
func (e Election) renewRecord(ctx context.Context, c Change) error {
	renewed, err := e.renewTogether(ctx, renewal{e.election, recordSlot, c.Version, c.Version + 1, c.LeaderID, c.Text})
	if renewed || err != nil {
		return err
	}
	return e.write(ctx, func(q sqldb.Execer) error { return e.writeRecord(ctx, q, c) })
}

// txOptions are for a transaction that writes several rows. It waits for locks for at most wait.
func (e Election) txOptions(wait time.Duration) sqldb.TxOptions {
	return sqldb.TxOptions{
		Isolation: e.dialect.Isolation, Prepare: e.dialect.Prepare(), Wait: wait, Savepoint: e.dialect.Savepoint,
	}
}

// inTx is sqldb.InTx for a transaction of the elections' own. Guarded transactions let it pass
// first.
func (t *Table) inTx(ctx context.Context, options sqldb.TxOptions, body func(*sql.Tx) error) error {
	return t.turns.Own(func() error { return sqldb.InTx(ctx, t.db, options, body) })
}

// lockWait is how long a change of leader may wait for a lock on the server. It is a little less
// than what ctx allows, so the caller gets the server's error before ctx ends.
func lockWait(ctx context.Context) time.Duration {
	wait := sqldb.RetryLimit
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	return wait * 9 / 10
}

// Change is what replaces a record.
type Change struct {
	LeaderID string
	Text     any // a string, or what a driver takes for one
	// Version is the stored version. Version + 1 replaces it.
	Version       int64
	Term          int64
	LeaderChanged bool         // an acquisition or a release: the leader row is written, too
	Member        MemberChange // in the same transaction
}

// replace writes every row that c concerns, in the order that all writers of this table keep:
// leader row, guard rows, member row, record row. The record row comes last, because a change may
// have to wait for a guarded transaction: until the wait is over, renewals are not held up.
func (e Election) replace(ctx context.Context, tx *sql.Tx, c Change) error {
	if c.Version == 0 {
		if err := e.create(ctx, tx); err != nil {
			return err
		}
	}
	if c.LeaderChanged {
		if err := e.writeLeader(ctx, tx, c); err != nil {
			return err
		}
	}
	if err := e.writeMember(ctx, tx, c.Member); err != nil {
		return err
	}
	return e.writeRecord(ctx, tx, c)
}

// create inserts the leader row and the record row if they are missing, with the version 0. It
// inserts first and locks later: on some engines, two creators that lock a row which is not there
// deadlock.
func (e Election) create(ctx context.Context, tx *sql.Tx) error {
	if err := e.insert(ctx, tx, leaderRowID, leaderSlot, "", 0); err != nil {
		return err
	}
	if err := e.errIfCreated(ctx, tx); err != nil { // the insert has waited for another creator
		return err
	}
	err := e.insert(ctx, tx, recordRowID, recordSlot, "", 0)
	if dialect.Classify(err) == dialect.Conflict {
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

// errIfCreated returns ErrConflict if the record row was written by any Update. When many members
// start on an empty table, all but one lose. The check lets the losers return without taking locks
// that the winner needs: on every engine, transactions that write the same rows wait for each
// other.
func (e Election) errIfCreated(ctx context.Context, q sqldb.Execer) error {
	r := e.recordRow()
	r.where += " AND version > 0"
	n, err := e.count(ctx, q, r)
	if err == nil && n > 0 {
		err = fmt.Errorf("it was created meanwhile: %w", ErrConflict)
	}
	return err
}

// errRowMissing means that the leader row was deleted by hand.
var errRowMissing = fmt.Errorf("the leader row is missing: %w", errors.ErrUnsupported)

// writeLeader writes the new reign where guarded transactions look for it: into the leader row and
// into every guard row that exists. It also writes guard rows that this version's own guarded
// transactions would not use.
func (e Election) writeLeader(ctx context.Context, tx *sql.Tx, c Change) error {
	err := e.exec(ctx, tx, e.leaderUpdate(c))
	if errors.Is(err, errRowMissing) {
		err = e.insert(ctx, tx, leaderRowID, leaderSlot, c.LeaderID, c.Term)
	}
	if err != nil {
		return err
	}
	return e.writeStripes(ctx, tx, c)
}

func (e Election) leaderUpdate(c Change) dialect.Statement {
	r := e.leaderRow()
	return dialect.Statement{
		Write: "UPDATE % SET leader_id = ?, version = ?", Args: []any{c.LeaderID, c.Term}, Where: r.where, Rows: r.args,
		IfNoRow: errRowMissing,
	}
}

func (e Election) writeRecord(ctx context.Context, q sqldb.Execer, c Change) error {
	return e.exec(ctx, q, e.recordUpdate(c))
}

// recordUpdate replaces the record row if it still holds the version that c replaces. Some engines
// count the rows that an UPDATE changed, others the rows that it found. Every write changes the
// version, so both counts are the same.
func (e Election) recordUpdate(c Change) dialect.Statement {
	r := e.recordRow()
	version, args := e.dialect.Written("id", c.Version+1, writtenTexts(c.LeaderID, c.Text)...)
	return dialect.Statement{
		Write: e.dialect.BoundedWrite + "UPDATE % SET leader_id = ?, record = ?, version = " + version,
		Args:  append([]any{c.LeaderID, c.Text}, args...),
		Where: r.where + " AND version = ?", Rows: append(r.args, c.Version), IfNoRow: ErrConflict,
	}
}

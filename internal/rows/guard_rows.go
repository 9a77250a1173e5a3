package rows

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/guard"
	"github.com/sqlelect/election/internal/sqldb"
)

// On a Galera cluster (dialect.Galera) no lock reaches all members. There a guarded transaction
// writes a guard stripe. An election has several stripes, and each guarded transaction draws one at
// random, so guarded transactions mostly do not wait for each other. Every stripe always holds what
// the leader row holds: a transaction that writes the reign into one stripe also writes the leader
// row and all other stripes.
//
// Of two transactions that write the same row, the first to commit wins. So a change of leader
// would hardly ever win against many guarded transactions. Once it has lost, it closes the gate, a
// row that guarded transactions read before they begin. The gate is a hint: a guarded transaction
// that overlooks it is only in the way.

// gateSlot lies outside of the stripes' slots, so updates of all stripes never touch the gate.
const gateSlot = -1

func (e Election) stripe(slot int) row {
	return row{"election = ? AND slot = ?", []any{e.election, slot}}
}

func (e Election) gateRow() row { return e.stripe(gateSlot) }

// guardRow is the row that a guarded transaction locks or writes. Of several stripes it draws one.
func (e Election) guardRow() row {
	if e.dialect.Stripes == 0 {
		return e.leaderRow()
	}
	return e.stripe(firstStripe + rand.IntN(e.dialect.Stripes))
}

// writeStripes writes the reign of c into all guard stripes that exist. It adds the stripes that
// this member's guarded transactions use, if they are missing. In tx the leader row is written
// already.
func (e Election) writeStripes(ctx context.Context, tx *sql.Tx, c Change) error {
	if grown, err := e.hasElectionColumns(ctx, tx); err != nil || !grown {
		return err
	}
	query, args := e.stripesUpdate(c).Query()
	n, err := sqldb.Exec(ctx, tx, e.sql(query), e.dialect.Args(args...)...)
	if err != nil || n >= int64(e.dialect.Stripes) {
		return err
	}
	for slot := firstStripe; slot < firstStripe+e.dialect.Stripes && err == nil; slot++ {
		err = e.insertStripe(ctx, tx, slot, c.LeaderID, c.Term)
	}
	if err == nil {
		err = e.insertStripe(ctx, tx, gateSlot, "", 0)
	}
	return err
}

func (e Election) stripesUpdate(c Change) dialect.Statement {
	set, args := "UPDATE % SET leader_id = ?, version = ?", []any{c.LeaderID, c.Term}
	if e.dialect.Stripes > 0 { // the row must change, even for the same reign
		set, args = set+", record = ?", append(args, dialect.GuardToken())
	}
	return dialect.Statement{
		Write: set, Args: args, Where: "election = ? AND slot BETWEEN ? AND ?", Rows: []any{e.election, firstStripe, lastStripe},
	}
}

func (e Election) insertStripe(ctx context.Context, tx *sql.Tx, slot int, leader string, term int64) error {
	_, err := e.insertRow(ctx, tx, e.stripe(slot), newRow{
		"id": nil, "leader_id": leader, "version": term, "record": "", "election": e.election, "slot": slot,
	})
	return err
}

// Guardable returns an error if every guarded transaction must fail here. It may ask the database.
func (e Election) Guardable(ctx context.Context) error {
	return errors.Join(e.checkUsable(ctx), e.checkStripesPlace(ctx))
}

// Run runs fn in a guarded transaction, which commits only if leaderID leads; if term is not nil,
// only in that term. The caller fills in claim, except for Condition and Mend, which Run fills in.
func (e Election) Run(ctx context.Context, leaderID string, term *int64, claim guard.Claim, fn func(context.Context, *sql.Tx) error) error {
	claim.Condition = func() dialect.Claim {
		held, gate := e.leads(e.guardRow(), leaderID, term), e.gateRow()
		return dialect.Claim{
			Table: e.quoted, Name: e.election, Mark: "record",
			Where: held.where, Args: held.args, Gate: gate.where, GateArgs: gate.args,
		}
	}
	if e.dialect.Stripes > 0 {
		claim.Mend = func(ctx context.Context) (bool, error) {
			return e.mendStripes(ctx, e.leads(e.leaderRow(), leaderID, term))
		}
	}
	return e.guards().Run(ctx, &claim, fn)
}

// leads selects r if it names leaderID; if term is not nil, only with that term.
func (e Election) leads(r row, leaderID string, term *int64) row {
	where, args := r.where+" AND "+e.dialect.ByteEqual("leader_id"), append(r.args, leaderID)
	if term != nil {
		where, args = where+" AND version = ?", append(args, *term)
	}
	return row{where, args}
}

func (e Election) checkStripesPlace(ctx context.Context) error {
	if e.dialect.Stripes == 0 {
		return nil
	}
	if grown, err := e.hasElectionColumns(ctx, e.db); err != nil || grown {
		return err
	}
	return e.schemaError(ctx)
}

// mendStripes copies the leader row into every stripe if the leader row satisfies leads, and
// reports whether it does. The stripes differ from it if the leader was elected before its server
// joined a cluster, or if they were deleted by hand.
//
// It writes the leader row, too. So it conflicts with a change of leader on another node: only one
// of the two is committed, or the later one has seen the earlier one.
func (e Election) mendStripes(ctx context.Context, leads row) (mended bool, err error) {
	options := e.txOptions(lockWait(ctx))
	err = sqldb.InTx(ctx, e.db, options, func(tx *sql.Tx) error {
		n, err := sqldb.Exec(ctx, tx, e.sql("UPDATE % SET record = ? WHERE "+leads.where), append([]any{dialect.GuardToken()}, leads.args...)...)
		if mended = n == 1; err != nil || !mended {
			return err
		}
		var c Change
		query, args := e.dialect.LinearizableSelect("SELECT leader_id, version FROM % WHERE "+leads.where, leads.args...)
		if err := tx.QueryRowContext(ctx, e.sql(query), args...).Scan(&c.LeaderID, &c.Term); err != nil {
			return err
		}
		return e.writeStripes(ctx, tx, c)
	})
	return mended, err
}

// closingGateOnRetry returns options for the transactions of a change of leader: each transaction
// after the first one closes the gate before it begins. The caller calls open in the end, which
// opens the gate again.
func (e Election) closingGateOnRetry(options sqldb.TxOptions) (_ sqldb.TxOptions, open func(context.Context)) {
	prepare, token, tries := options.Prepare, dialect.GuardToken(), 0
	if e.dialect.Stripes == 0 || prepare == nil {
		return options, func(context.Context) {}
	}
	options.Prepare = func(ctx context.Context, conn *sql.Conn, wait time.Duration) (restore func() error, err error) {
		if tries++; tries > 1 {
			if err := e.setGate(ctx, conn, token, ""); err != nil {
				return func() error { return nil }, err
			}
		}
		return prepare(ctx, conn, wait)
	}
	return options, func(ctx context.Context) {
		if tries > 1 { // if this fails, the transactions that wait at the gate open it
			_ = e.setGate(ctx, e.db, "", token)
		}
	}
}

// setGate writes text into the gate; if held is not empty, only if the gate holds held.
func (e Election) setGate(ctx context.Context, q sqldb.Execer, text, held string) error {
	r := e.gateRow()
	if held != "" {
		r = row{r.where + " AND record = ?", append(r.args, held)}
	}
	_, err := q.ExecContext(ctx, e.sql(e.dialect.BoundedWrite+"UPDATE % SET record = ? WHERE "+r.where), append([]any{text}, r.args...)...)
	if dialect.Classify(err) == dialect.Retry { // lost against another change that closes the gate
		return nil
	}
	return err
}

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

// Where no lock reaches all members (dialect.Galera), a guarded transaction writes one
// of several guard stripes, drawn at random, lest guarded transactions wait for each
// other. Each stripe holds what the leader row holds, always: whoever writes one writes
// the leader row too, and all others, in one transaction.
//
// As of two that write the same row the one that commits first wins, a change of
// leader would hardly ever win against many guarded transactions. So a change that has
// lost once closes the gate, a row which guarded transactions read before they begin.
// That is a hint: who overlooks it is only in the way.

// gateSlot is in no range of slots that is written for its place alone.
const gateSlot = -1

func (e Election) stripe(slot int) row {
	return row{"election = ? AND slot = ?", []any{e.election, slot}}
}

func (e Election) gateRow() row { return e.stripe(gateSlot) }

// guardRow is what a guarded transaction holds in place.
func (e Election) guardRow() row {
	if e.dialect.Stripes == 0 {
		return e.leaderRow()
	}
	return e.stripe(firstStripe + rand.IntN(e.dialect.Stripes))
}

// writeStripes puts the reign of c into all guard stripes that exist, and adds those
// that this member's guarded transactions use. The leader row is written already, in tx.
func (e Election) writeStripes(ctx context.Context, tx *sql.Tx, c Change) error {
	if grown, err := e.isGrown(ctx, tx); err != nil || !grown {
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
	if e.dialect.Stripes > 0 { // also where the reign is the same, a row must change to be written
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

// Guardable returns the error of every guarded transaction, if any.
func (e Election) Guardable(ctx context.Context) error {
	return errors.Join(e.usable(ctx), e.hasStripes(ctx))
}

// Run runs fn in a transaction that is guarded by claim, and commits only if leaderID leads, in
// that term unless it is nil. Of claim it fills in Condition and Mend.
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

// leads selects r if leaderID leads, in that term unless it is nil.
func (e Election) leads(r row, leaderID string, term *int64) row {
	where, args := r.where+" AND "+e.dialect.ByteEqual("leader_id"), append(r.args, leaderID)
	if term != nil {
		where, args = where+" AND version = ?", append(args, *term)
	}
	return row{where, args}
}

func (e Election) hasStripes(ctx context.Context) error {
	if e.dialect.Stripes == 0 {
		return nil
	}
	if grown, err := e.isGrown(ctx, e.db); err != nil || grown {
		return err
	}
	return e.schemaError(ctx)
}

// mendStripes makes the stripes agree with the leader row if that is as leads says,
// and reports whether it is. They do not where the leader was elected before its
// server became one of a cluster, or where somebody has deleted them.
//
// It writes the leader row: so of this and a change of leader on another node only
// one is committed, or the later one has seen the earlier one's.
func (e Election) mendStripes(ctx context.Context, leads row) (mended bool, err error) {
	options := e.txOptions(lockWait(ctx))
	err = sqldb.InTx(ctx, e.db, options, func(tx *sql.Tx) error {
		n, err := sqldb.Exec(ctx, tx, e.sql("UPDATE % SET record = ? WHERE "+leads.where), append([]any{dialect.GuardToken()}, leads.args...)...)
		if mended = n == 1; err != nil || !mended {
			return err
		}
		var c Change
		query, args := e.dialect.Fresh("SELECT leader_id, version FROM % WHERE "+leads.where, leads.args...)
		if err := tx.QueryRowContext(ctx, e.sql(query), args...).Scan(&c.LeaderID, &c.Term); err != nil {
			return err
		}
		return e.writeStripes(ctx, tx, c)
	})
	return mended, err
}

// gated is how the transactions of a change of leader are begun: each after the first
// one closes the gate before. Open, called in the end, opens it again.
func (e Election) gated(options sqldb.TxOptions) (_ sqldb.TxOptions, open func(context.Context)) {
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
		if tries > 1 { // if it fails, those who wait will do it
			_ = e.setGate(ctx, e.db, "", token)
		}
	}
}

// setGate leaves text in the gate, if it holds what is told, or whatever it holds.
func (e Election) setGate(ctx context.Context, q sqldb.Execer, text, held string) error {
	r := e.gateRow()
	if held != "" {
		r = row{r.where + " AND record = ?", append(r.args, held)}
	}
	_, err := q.ExecContext(ctx, e.sql(e.dialect.BoundedWrite+"UPDATE % SET record = ? WHERE "+r.where), append([]any{text}, r.args...)...)
	if dialect.Classify(err) == dialect.Retry { // lost against another one that closes it
		return nil
	}
	return err
}

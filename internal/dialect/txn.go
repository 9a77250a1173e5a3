package dialect

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Txn is the transaction of a Fence, and tells when it is over: no statement on it is
// under way any more, and none can follow.
//
// The first call of sql.Tx's Commit or Rollback, whoever makes it, marks the
// transaction done, so that no statement follows; then it waits for those under way, with
// their Rows, and for the driver; then it gives its hold on the connection back. Every
// other call returns sql.ErrTxDone at once, also while that first one still waits. So
// a Commit or Rollback that has returned anything else has seen the end; after
// sql.ErrTxDone somebody else is at it: a goroutine of the guarded function's, or database/sql
// at the end of a ctx. Then statements may be under way that are committed by
// themselves on a connection without its fence.
//
// What waits for that end in any case is the closing of a sql.Conn: database/sql discards
// its connection, or gives it back, when the transaction has given up its hold.
type Txn struct {
	*sql.Tx
	conn *sql.Conn
	over bool
	// last is a statement in the transaction, which sql.Tx closes when the driver's COMMIT or
	// ROLLBACK has returned. Nil: nobody waits for that.
	last *sql.Stmt
}

func beginTxn(ctx context.Context, conn *sql.Conn) (*Txn, error) {
	tx, err := conn.BeginTx(ctx, nil)
	return newTxn(tx, conn, err)
}

func newTxn(tx *sql.Tx, conn *sql.Conn, err error) (*Txn, error) {
	if err != nil {
		return nil, err
	}
	return &Txn{Tx: tx, conn: conn}, nil
}

// Commit is sql.Tx's, which does nothing when the ctx of BEGIN has ended.
func (t *Txn) Commit() error {
	err := t.Tx.Commit()
	t.over = t.over || !errors.Is(err, sql.ErrTxDone) && Classify(err) != Ambiguous
	return err
}

// Rollback is sql.Tx's.
func (t *Txn) Rollback() error {
	err := t.Tx.Rollback()
	t.over = t.over || !errors.Is(err, sql.ErrTxDone)
	return err
}

// End ends the transaction, if nobody else has, and reports whether it is known to be over.
// After Watch it always is, as End waits for whoever else ends it.
func (t *Txn) End() (over bool) {
	if !t.over {
		_ = t.Rollback()
	}
	for !t.over && t.last != nil {
		// While somebody waits for the statements under way, so does this.
		if _, err := t.last.Exec(); !errors.Is(err, sql.ErrTxDone) {
			t.over = true // the statement is closed
		} else if rawUnlessClosed(t.conn, func(any) error { return nil }) != nil {
			t.over = true // the connection is
		} else {
			_, _ = pause(context.Background(), time.Millisecond, nil)
		}
	}
	if t.over && t.last != nil {
		_ = t.last.Close() // database/sql does not on a broken connection
	}
	return t.over
}

// Watch lets End wait, if last is not nil: it is one of Dialect.Last. It is called once,
// before anybody else knows of the transaction.
func (t *Txn) Watch(ctx context.Context, last *sql.Stmt) error {
	if last == nil {
		return nil
	}
	t.last = t.StmtContext(ctx, last)
	_, err := t.last.ExecContext(ctx)
	return err
}

// Last prepares a statement for Txn.Watch, or nil where that would cost a round trip in
// each transaction. It belongs to db: so database/sql closes it with each connection. One of
// the transaction's own would outlive a connection that is closed early: SQLite then keeps that
// open, with its locks, and modernc.org/sqlite panics when the statement is closed.
func (d *Dialect) Last(ctx context.Context, db *sql.DB) (*sql.Stmt, error) {
	if d.last == "" {
		return nil, nil
	}
	return db.PrepareContext(ctx, d.last)
}

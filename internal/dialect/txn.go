package dialect

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Txn is the transaction of a Fence. It tells when the transaction is over: no statement on it is
// under way any more, and none can follow.
//
// Any goroutine may call Commit or Rollback of a sql.Tx. The first call
//
//  1. marks the transaction done, so that no statement follows,
//  2. waits for the statements under way, with their Rows, and for the driver,
//  3. gives back its hold on the connection.
//
// Every other call returns sql.ErrTxDone at once, even while the first one still waits. So a Commit
// or Rollback that has returned anything else has seen the end. After sql.ErrTxDone another
// goroutine is ending the transaction: one of the guarded function, or database/sql at the end of a
// ctx. Statements may still be under way then. On a connection without its fence they would be
// committed by themselves.
//
// Closing a sql.Conn always waits for that end: database/sql discards its connection, or gives it
// back, when the transaction has given up its hold.
type Txn struct {
	*sql.Tx
	conn *sql.Conn
	over bool
	// last is a statement in the transaction. sql.Tx closes it when the driver's COMMIT or ROLLBACK
	// has returned. Nil: End waits for no other goroutine.
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

// Commit is sql.Tx's Commit. It does nothing if the ctx of BEGIN has ended.
func (t *Txn) Commit() error {
	err := t.Tx.Commit()
	t.over = t.over || !errors.Is(err, sql.ErrTxDone) && Classify(err) != Ambiguous
	return err
}

// Rollback is sql.Tx's Rollback.
func (t *Txn) Rollback() error {
	err := t.Tx.Rollback()
	t.over = t.over || !errors.Is(err, sql.ErrTxDone)
	return err
}

// End rolls the transaction back if it has not ended, and reports whether it is known to be over.
// After Watch it always is: End then waits for another goroutine that is ending it.
func (t *Txn) End() (over bool) {
	if !t.over {
		_ = t.Rollback()
	}
	for !t.over && t.last != nil {
		// While another goroutine waits for the statements under way, this Exec waits too.
		if _, err := t.last.Exec(); !errors.Is(err, sql.ErrTxDone) {
			t.over = true // the statement is closed
		} else if rawUnlessClosed(t.conn, func(any) error { return nil }) != nil {
			t.over = true // the connection is closed
		} else {
			_, _ = pause(context.Background(), time.Millisecond, nil)
		}
	}
	if t.over && t.last != nil {
		_ = t.last.Close() // database/sql does not close it on a broken connection
	}
	return t.over
}

// Watch makes End wait for other goroutines, if last is not nil. Last comes from Dialect.Last.
// Watch is called once, before another goroutine knows of the transaction.
func (t *Txn) Watch(ctx context.Context, last *sql.Stmt) error {
	if last == nil {
		return nil
	}
	t.last = t.StmtContext(ctx, last)
	_, err := t.last.ExecContext(ctx)
	return err
}

// Last prepares a statement for Txn.Watch. It returns nil if the statement would cost a round trip
// in each transaction. The statement belongs to db, so that database/sql closes it with each
// connection. A statement of the transaction's own would outlive a connection that is closed early.
// SQLite would then keep the connection open, with its locks, and modernc.org/sqlite would panic
// when the statement is closed.
func (d *Dialect) Last(ctx context.Context, db *sql.DB) (*sql.Stmt, error) {
	if d.last == "" {
		return nil, nil
	}
	return db.PrepareContext(ctx, d.last)
}

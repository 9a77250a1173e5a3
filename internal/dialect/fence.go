package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// ErrEnded is returned by Fence.Commit when there is nothing left to commit.
var ErrEnded = errors.New("the transaction has ended")

// Claim is what a guarded transaction is held to: a row satisfies a condition, and stays as it is
// until the transaction ends.
type Claim struct {
	Table string // quoted
	// Name tells the claim from everything else that is guarded in the table. It may be empty.
	Name string
	// Where selects the row if the claim holds, and nothing otherwise. It has question marks for
	// Args. If the dialect has stripes, it selects one of them.
	Where string
	Args  []any // each a string, an int or an int64
	// Mark is a text column of the row. A guarded transaction may write it, and only fences read
	// it.
	Mark string
	// Gate selects the gate row, if the dialect has stripes. The gate is open while its Mark is
	// empty.
	Gate     string
	GateArgs []any
	// Timeout bounds how long the server keeps a transaction whose client says nothing, if the
	// server can do so.
	Timeout time.Duration
}

// A Fence watches over one guarded transaction on a pinned connection. Only Commit can commit
// there, and only while the transaction that took the guard is still open.
//
// The calls come in this order: Begin, Hold, then Commit or Rollback, then Lift. Lift is always
// called, the others if the transaction gets that far. Until Lift, the fence also holds for
// statements that follow the transaction on the connection.
type Fence interface {
	// Begin begins the transaction on the pinned connection. An error that wraps driver.ErrBadConn
	// means that the connection was dead already.
	Begin(ctx context.Context) (*Txn, error)
	// Hold takes the guard as the transaction's first statement, and reports whether the claim
	// holds. If it holds, it goes on to hold until the transaction ends.
	Hold(ctx context.Context, tx *sql.Tx, claim Claim) (held bool, err error)
	// Commit commits the transaction that took the guard. If that transaction is no longer open,
	// Commit returns ErrEnded. An error that wraps ErrUncertain means that the transaction may be
	// committed. Commit gives up when ctx and the ctx of tx have ended. To database/sql tx may
	// still be open then: see Txn.End.
	Commit(ctx context.Context, tx *Txn) error
	// Rollback ends the transaction. It gives up like Commit.
	Rollback(ctx context.Context, tx *Txn) error
	// Ended reports whether the transaction is known to have ended early. It sends no statement.
	Ended() bool
	// Lift restores the connection, once the transaction is over. With discard, or if restoring
	// fails, Lift closes the connection instead (unless closing it would drop the database).
	// Discard must be true if Txn.End does not know that the transaction is over.
	Lift(discard bool) error
}

// Hold takes a claim in a transaction of the caller's own, and reports whether the claim holds. If
// it holds, no other transaction can change the row until tx has ended: whatever tx writes is
// committed while the claim holds. There is no [Fence]: if tx ends early, by whatever means,
// nothing guards the caller's later statements. Hold does not use Claim.Timeout and Claim.Gate.
// Until ctx ends, it waits for other transactions that change the row. After an error the caller
// must roll tx back.
//
// In two cases the error is of class Retry:
//
//   - PostgreSQL, at REPEATABLE READ and above: the row has changed since tx began.
//   - SQLite: tx has read before another transaction wrote.
func (d *Dialect) Hold(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	return d.hold(ctx, tx, c)
}

// wrote reports whether a statement has found a row.
func wrote(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// ErrUncertain is wrapped by an error of Fence.Commit after which the transaction may have been
// committed.
var ErrUncertain = errors.New("the outcome is not known")

// guardToken is the text that a write of a guard stripe leaves in it. Each write has a token of its
// own. The text is JSON, like everything in that column.
func guardToken(token string) string { return `{"guard":"` + token + `"}` }

// GuardToken returns a new text for a guard stripe.
func GuardToken() string { return guardToken(fmt.Sprintf("%x", rand.Uint64())) }

// errTransactionLost means that the server has rolled a transaction back before its COMMIT.
var errTransactionLost = errors.New("the transaction was rolled back under way")

// TransactionLost is the error of a transaction whose savepoint could not be released.
func TransactionLost(err error) error { return fmt.Errorf("%w: %w", errTransactionLost, err) }

// uncertain marks the error of a COMMIT that was sent, unless the error proves a rollback.
func uncertain(err error, rolledBack func(error) bool) error {
	if err == nil || rolledBack(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUncertain, err)
}

// liftTimeout bounds a statement that restores a connection. The statement waits for no lock, so
// only a dead server takes longer.
const liftTimeout = 2 * time.Second

// restore runs statements that restore conn. With discard, or if a statement fails, it closes conn.
// It has a ctx of its own, because the caller's ctx may be over.
func restore(conn *sql.Conn, discard bool, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), liftTimeout)
	defer cancel()
	for _, statement := range statements {
		if discard {
			break
		}
		discard = execUnlessClosed(ctx, conn, statement) != nil
	}
	if !discard {
		return nil
	}
	err := rawUnlessClosed(conn, func(dc any) error {
		// database/sql may have its connections from another pool. What it closes then goes back to
		// that pool, so the connection is closed here first.
		if pg, ok := pgxOf(dc); ok {
			_ = pg.Close(ctx)
		}
		return driver.ErrBadConn // database/sql closes it
	})
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		return nil
	}
	return err
}

// Prepare returns a function that makes conn fit for one change of leader. The change may wait for
// locks, and be idle, for as long as wait. Restore is called when the transaction is over: it
// restores conn or closes it. Nil: no connection needs to be pinned.
func (d *Dialect) Prepare() func(ctx context.Context, conn *sql.Conn, wait time.Duration) (restore func() error, err error) {
	return d.prepare
}

// Gate runs the first statement of a transaction that changes what is claimed under name in the
// quoted table. It bounds the transaction's waits on the server. On an engine where overlapping
// guarded transactions would keep the row locked for ever, it also waits for the guarded
// transactions under way. Later ones then wait for the transaction.
func (d *Dialect) Gate(ctx context.Context, tx *sql.Tx, table, name string, wait time.Duration) error {
	if d.gate == nil {
		return nil
	}
	return d.gate(ctx, tx, table, name, wait)
}

// SetTimeouts runs the first statement of a transaction that has neither Prepare nor Gate. It
// bounds the transaction's waits on the server, including the wait for its client, as Gate does.
func (d *Dialect) SetTimeouts(ctx context.Context, tx *sql.Tx, wait time.Duration) error {
	if d.bounds == nil {
		return nil
	}
	_, err := tx.ExecContext(ctx, "SELECT "+d.bounds(wait))
	return err
}

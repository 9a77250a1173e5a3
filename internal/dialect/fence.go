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

// Claim is what a guarded transaction holds in place: a row, as it is.
type Claim struct {
	Table string // quoted
	// Name tells what is claimed from everything else that is guarded in the table. It may be empty.
	Name string
	// Where, with question marks for Args, selects the row if it holds what is claimed, and nothing
	// otherwise. Where the dialect has stripes, it selects one of them.
	Where string
	Args  []any // each a string, an int or an int64
	// Mark is a column of the row, for text, which a guarded transaction may write. Nobody else reads it.
	Mark string
	// Gate selects the gate row, where the dialect has stripes. Its Mark is empty while the gate is open.
	Gate     string
	GateArgs []any
	// Timeout bounds how long the server keeps a transaction whose client says
	// nothing, where it can.
	Timeout time.Duration
}

// A Fence watches over one guarded transaction on a pinned connection: nothing
// may be committed there but by Commit, while the transaction that took the guard
// is still open. Begin, Hold, one of Commit and Rollback, and Lift are called in this
// order, Lift always, the others if the transaction gets that far. Until Lift the fence
// stands also for what follows the transaction on the connection.
type Fence interface {
	// Begin begins the transaction, on the pinned connection. An error wrapping
	// driver.ErrBadConn means that the connection was dead already.
	Begin(ctx context.Context) (*Txn, error)
	// Hold takes the guard, as the transaction's first statement, and reports
	// whether the claim holds: then it goes on to hold until the transaction ends.
	Hold(ctx context.Context, tx *sql.Tx, claim Claim) (held bool, err error)
	// Commit commits the transaction that took the guard, or returns ErrEnded if
	// that is not the one still open. An error wrapping ErrUncertain means that it
	// may be committed. It gives up when ctx, and the ctx of tx, end. For database/sql
	// tx may go on: see Txn.End.
	Commit(ctx context.Context, tx *Txn) error
	// Rollback ends the transaction. It gives up like Commit.
	Rollback(ctx context.Context, tx *Txn) error
	// Ended reports what is known, without a statement, of an early end.
	Ended() bool
	// Lift makes the connection as it was, once the transaction is over. With
	// discard, or if that fails, the connection is closed instead of going back
	// to the pool (unless closing it would drop the database). Where Txn.End does not know
	// of the transaction's end, discard must be true.
	Lift(discard bool) error
}

// Hold takes a claim in a transaction of the caller's, and reports whether it holds. Then nobody can change
// the row until tx has ended: what tx has written when it commits was written while the claim held.
// There is no [Fence]: if the transaction ends early, by whatever means, the caller's later
// statements are not held to anything. Claim.Timeout and Gate are not used. Hold waits, until ctx ends, for
// whoever changes the row. An error leaves tx to be rolled back.
//
// At REPEATABLE READ and above, a row that has changed since tx began is an error of class Retry on
// PostgreSQL, as is a transaction on SQLite that has read before others wrote.
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

// ErrUncertain is wrapped by errors of Fence.Commit after which the transaction
// may have been committed.
var ErrUncertain = errors.New("the outcome is not known")

// guardToken is the text that a write of a guard stripe leaves in it: another one each
// time. It is JSON, as is everything in that column.
func guardToken(token string) string { return `{"guard":"` + token + `"}` }

// GuardToken returns a new text for a guard stripe.
func GuardToken() string { return guardToken(fmt.Sprintf("%x", rand.Uint64())) }

// errTorn means that a transaction ended before its time.
var errTorn = errors.New("the transaction was rolled back under way")

// Torn is the error of a transaction whose savepoint could not be released.
func Torn(err error) error { return fmt.Errorf("%w: %w", errTorn, err) }

// uncertain marks the error of a COMMIT that was sent.
func uncertain(err error, rolledBack func(error) bool) error {
	if err == nil || rolledBack(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUncertain, err)
}

// liftTimeout bounds a statement that restores a connection: it waits for no
// lock, so only a dead server takes longer.
const liftTimeout = 2 * time.Second

// restore runs a statement that makes conn as it was, or closes it. The caller's
// ctx may be over, so it has one of its own.
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
		// Where database/sql has its connections from another pool, that one would
		// be given back what is closed here.
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

// Prepare makes conn fit for one change of leader that may wait for locks and
// be idle for as long as wait; restore, called when the transaction is over,
// makes it as it was or closes it. Nil: no connection needs to be pinned.
func (d *Dialect) Prepare() func(ctx context.Context, conn *sql.Conn, wait time.Duration) (restore func() error, err error) {
	return d.prepare
}

// Gate is the first statement of a transaction that changes what is claimed under name in the quoted
// table. It waits for the guarded transactions on it where row locks alone would let them pass for
// ever, and bounds the transaction's waits on the server.
func (d *Dialect) Gate(ctx context.Context, tx *sql.Tx, table, name string, wait time.Duration) error {
	if d.gate == nil {
		return nil
	}
	return d.gate(ctx, tx, table, name, wait)
}

// Bound is the first statement of any other transaction that is made without Prepare:
// it bounds the transaction's waits on the server, also for its client. (Gate does, too.)
func (d *Dialect) Bound(ctx context.Context, tx *sql.Tx, wait time.Duration) error {
	if d.bounds == nil {
		return nil
	}
	_, err := tx.ExecContext(ctx, "SELECT "+d.bounds(wait))
	return err
}

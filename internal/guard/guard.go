// Package guard runs transactions that commit only while a claim on one row holds, such as: the row
// names this leader, or this owner of a lock. It knows no table and no column. What keeps the
// transaction whole until its COMMIT is the engine's [dialect.Fence].
//
// A transaction goes through these steps. Each of them has a bound of its own:
//
//	Run       waits for a turn, if all writers share one lock; until the caller's ctx ends
//	begin     takes a connection, begins, takes the claim; again after a conflict; until ctx ends
//	fn        runs until it returns; if ctx ends first, the transaction is rolled back beside it
//	COMMIT    is waited for until Claim.Patience after the end of ctx; ROLLBACK likewise
//	close     restores the connection and gives it back, or discards it; it is never given up, but
//	          Run waits for it for Claim.Patience at most
package guard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

var (
	// ErrOutcomeUnknown means that COMMIT was sent and failed. The transaction may have been
	// committed.
	ErrOutcomeUnknown = errors.New("election: outcome of the commit is unknown")
	// ErrTxnEnded means that the transaction ended inside fn. Nothing was committed outside the
	// guard.
	ErrTxnEnded = errors.New("election: guarded transaction ended before its function returned")
)

// DefaultPatience is how long COMMIT or ROLLBACK is waited for once the transaction's time is over.
// On a server neither waits for a lock, so only a dead server takes longer. On SQLite a COMMIT may
// wait for readers.
const DefaultPatience = 2 * time.Second

// Database is the database whose transactions are guarded. It is immutable, and safe for
// concurrent use.
type Database struct {
	DB       *sql.DB
	Dialect  *dialect.Dialect
	Identity string    // of the database, see dialect.Sight
	Turns    *Turns    // at the engine's one lock for all writers; nil if it has none
	LastStmt *sql.Stmt // of dialect.Last
}

// Claim is what a transaction is held to, and how long it may take.
type Claim struct {
	// Condition returns what must hold. It is called for each attempt, because on some engines
	// there are several rows to hold, of which one is drawn.
	Condition func() dialect.Claim
	// Refused is the error when the condition does not hold.
	Refused error
	// Mend, if set, is called once if the condition does not hold. If it reports true, the
	// transaction is tried again.
	Mend func(context.Context) (mended bool, err error)
	// Valid, if set, is called before COMMIT. If it returns an error, the transaction is rolled
	// back.
	Valid func() error
	// Explain, if set, adds to an error whose transaction it was. It is not called for an error
	// that is fn's alone.
	Explain func(error) error
	// Timeout bounds the transaction, from the call of Run to COMMIT. The server enforces it too,
	// where it can, in case the client has stopped.
	Timeout time.Duration
	// Patience is how long COMMIT or ROLLBACK is waited for once ctx or the timeout has ended. 0
	// means DefaultPatience.
	Patience time.Duration
	// Took, if set, is called with how long the claim was held.
	Took func(time.Duration)
}

func (c *Claim) explain(err error) error {
	if c.Explain == nil {
		return err
	}
	return c.Explain(err)
}

func (c *Claim) patience() time.Duration {
	if c.Patience > 0 {
		return c.Patience
	}
	return DefaultPatience
}

// Run runs fn, at most once, in a transaction that commits only if the claim holds at the moment of
// the commit. fn's ctx ends when ctx ends or the timeout has passed. Run blocks, and returns no
// earlier than fn does.
//
// If fn returns an error, the transaction is rolled back, and Run returns that error as it is.
// Other errors wrap c.Refused, ErrTxnEnded, ErrOutcomeUnknown, or what the database said; IsLate
// tells those of a transaction whose time was over.
func (d *Database) Run(ctx context.Context, c *Claim, fn func(context.Context, *sql.Tx) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("guard timeout of %v has passed", c.Timeout))
	defer cancel()
	t, err := d.acquire(ctx, c)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err) // the timeout, in words
		}
		if ctx.Err() != nil {
			err = lateError{err}
		}
		return c.explain(err)
	}
	return t.run(ctx, fn)
}

// acquire returns a transaction that holds the claim. It waits until ctx ends for other holders of
// the lock. Each attempt has a connection of its own and gives it back. So a pool of one connection
// serves the process's other work between the attempts.
func (d *Database) acquire(ctx context.Context, c *Claim) (t *txn, err error) {
	if err := ctx.Err(); err != nil {
		return nil, ctxError(ctx)
	}
	turn, err := d.Turns.Take(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			turn.Give()
			return
		}
		t.turn = turn
	}()
	begin := func() error {
		return sqldb.Retry(ctx, func() error {
			if err := turn.Yield(ctx); err != nil {
				return err
			}
			return sqldb.RetryBadConn(d.DB, func() error {
				t, err = d.begin(ctx, c, turn)
				return err
			})
		})
	}
	err = begin()
	if c.Mend != nil && errors.Is(err, c.Refused) {
		mended, mendErr := c.Mend(ctx)
		if !mended {
			return nil, errors.Join(err, mendErr)
		}
		err = begin()
	}
	return t, err
}

func (d *Database) begin(ctx context.Context, c *Claim, turn *Turn) (_ *txn, err error) {
	t := &txn{Database: d, claim: c}
	if t.conn, err = d.DB.Conn(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.discard = t.discard || dialect.Classify(err) == dialect.Elsewhere
			_, closeErr := t.finish(ctx, func() {}, nil)
			err = errors.Join(err, closeErr)
		}
	}()
	restore, err := d.Dialect.Hasten(ctx, t.conn)
	defer func() {
		if err == nil {
			err = restore() // before fn, whose waits are the program's to set
			t.discard = err != nil
		} else {
			t.unhasten = restore // after the end of the transaction
		}
	}()
	if err != nil {
		return nil, err
	}
	if t.fence, err = d.Dialect.Fence(ctx, t.conn, d.Identity); err != nil {
		return nil, err
	}
	// The transaction's own ctx outlives ctx. Otherwise database/sql would roll back when ctx ends
	// and not tell when it has done so, but the fence must stay until then. See watch.
	txCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t.cancel = cancel
	detach := context.AfterFunc(ctx, cancel)
	t.tx, err = t.fence.Begin(txCtx)
	if !detach() {
		return nil, errors.Join(ctxError(ctx), err)
	}
	if err != nil {
		return nil, err
	}
	if err := t.tx.Watch(ctx, d.LastStmt); err != nil {
		return nil, err
	}
	condition := c.Condition()
	condition.Timeout = c.Timeout
	held, err := t.fence.Hold(ctx, t.tx.Tx, condition)
	switch {
	case err != nil:
		// If the server does not say that the statement was undone, the session may have been
		// changed. What there is to restore is not known then.
		t.discard = !dialect.Classify(err).Undone()
		return nil, err
	case !held:
		return nil, c.Refused
	}
	t.since = time.Now()
	turn.Held()
	return t, nil
}

// ctxError says why ctx ended.
func ctxError(ctx context.Context) error {
	if err, cause := ctx.Err(), context.Cause(ctx); cause != err {
		return lateError{fmt.Errorf("%w: %w", err, cause)}
	}
	return lateError{ctx.Err()}
}

// lateError is the error of a transaction whose ctx or timeout ended before the transaction did.
type lateError struct{ error }

func (e lateError) Unwrap() error { return e.error }

// IsLate reports whether err is that of a transaction whose ctx or timeout was over. Run again with
// the same bounds, such a transaction would be late again, whatever was in its way.
func IsLate(err error) bool { return errors.As(err, new(lateError)) }

// Package guard runs transactions that commit only while a claim on one row holds: that the
// row names a leader, or the owner of a lock. It knows no table and no column. What
// keeps the transaction whole until its COMMIT is the engine's [dialect.Fence].
//
// A transaction goes through these steps, each with a life of its own:
//
//	Run       takes a turn, where all that write share one lock, until the caller's ctx ends
//	begin     takes a connection, begins, and holds the claim, until ctx ends; tried again on a conflict
//	fn        until it returns; when ctx ends before, the transaction is rolled back beside it
//	COMMIT    waited for after ctx has ended, for Claim.Patience; ROLLBACK likewise
//	close     restores the connection and gives it back, or throws it away; never given up, but not waited for longer
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
	// ErrOutcomeUnknown: COMMIT was sent and failed; the transaction may have been committed.
	ErrOutcomeUnknown = errors.New("election: outcome of the commit is unknown")
	// ErrTxnEnded: the transaction ended inside fn. Nothing was committed outside the guard.
	ErrTxnEnded = errors.New("election: guarded transaction ended before its function returned")
)

// DefaultPatience is for how long the end of a transaction is waited for that has no time left.
// COMMIT and ROLLBACK wait for no lock, so only a dead server takes longer.
const DefaultPatience = 2 * time.Second

// Database is the database whose transactions are guarded. It is immutable, and safe for
// concurrent use.
type Database struct {
	DB       *sql.DB
	Dialect  *dialect.Dialect
	Identity string    // of the database, see sqldb.Seen
	Turns    *Turns    // at the one lock for all that write; nil where there is none
	Last     *sql.Stmt // of dialect.Last
}

// Claim is what a transaction is held to.
type Claim struct {
	// Condition returns what must hold. It is asked for each attempt anew, as an engine may have
	// several rows to hold, of which one is drawn.
	Condition func() dialect.Claim
	// Refused is the error when the condition does not hold.
	Refused error
	// Mend, if set, is called once when the condition does not hold. If it reports true, the
	// transaction is tried again.
	Mend func(context.Context) (mended bool, err error)
	// Valid, if set, is asked before COMMIT. Its error rolls the transaction back.
	Valid func() error
	// Explain, if set, adds to each error, but for fn's, whose transaction it was.
	Explain func(error) error
	// Timeout bounds the transaction, from Run to COMMIT, also on the server if its client has stopped.
	Timeout time.Duration
	// Patience is for how long the end is waited for once ctx or the timeout has ended.
	// 0: DefaultPatience.
	Patience time.Duration
	// Took, if set, is told for how long the claim was held.
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

// Run runs fn, at most once, in a transaction that commits only if the claim holds at that
// moment. Fn's ctx ends with the timeout, too. Run returns when fn has; an error of fn's is
// returned as it is.
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

// acquire returns a transaction that holds the claim. It waits until ctx ends for whoever holds the
// lock. Each attempt has a connection of its own, so that a pool of one is not blocked meanwhile for
// the process's other work.
func (d *Database) acquire(ctx context.Context, c *Claim) (t *txn, err error) {
	if err := ctx.Err(); err != nil {
		return nil, endOf(ctx)
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
			return sqldb.OnLiveConn(d.DB, func() error {
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
			err = restore() // before fn, which waits as the program wants it to
			t.discard = err != nil
		} else {
			t.unhasten = restore // behind the transaction's end
		}
	}()
	if err != nil {
		return nil, err
	}
	if t.fence, err = d.Dialect.Fence(ctx, t.conn, d.Identity); err != nil {
		return nil, err
	}
	// The transaction outlives ctx: database/sql would roll it back when ctx
	// ends, but without telling when it has done so, and the hooks must stay until
	// then. See watch.
	txCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t.cancel = cancel
	detach := context.AfterFunc(ctx, cancel)
	t.tx, err = t.fence.Begin(txCtx)
	if !detach() {
		return nil, errors.Join(endOf(ctx), err)
	}
	if err != nil {
		return nil, err
	}
	if err := t.tx.Watch(ctx, d.Last); err != nil {
		return nil, err
	}
	condition := c.Condition()
	condition.Timeout = c.Timeout
	held, err := t.fence.Hold(ctx, t.tx.Tx, condition)
	switch {
	case err != nil:
		// Unless the server says that the statement was undone, it is not known whether the session
		// was changed, and what there is to restore.
		t.discard = !dialect.Classify(err).Undone()
		return nil, err
	case !held:
		return nil, c.Refused
	}
	t.since = time.Now()
	turn.Held()
	return t, nil
}

// endOf says why ctx ended.
func endOf(ctx context.Context) error {
	if err, cause := ctx.Err(), context.Cause(ctx); cause != err {
		return lateError{fmt.Errorf("%w: %w", err, cause)}
	}
	return lateError{ctx.Err()}
}

// lateError is the error of a transaction whose ctx, or timeout, was over before it was.
type lateError struct{ error }

func (e lateError) Unwrap() error { return e.error }

// IsLate reports whether err is that of a transaction whose ctx or timeout was over: run again as it was, it
// would be so again, whatever came in its way.
func IsLate(err error) bool { return errors.As(err, new(lateError)) }

package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sqlelect/election/internal/dialect"
)

// txn is one guarded transaction, on a connection of its own. It is over
// when close has returned.
type txn struct {
	*Database
	claim  *Claim
	conn   *sql.Conn
	fence  dialect.Fence
	tx     *dialect.Txn
	cancel context.CancelFunc
	since  time.Time // it holds the guard
	turn   *Turn     // it gives at its end

	ended   bool // by us, or found ended
	discard bool // the connection may be in a state that we do not know

	unhasten func() error // undoes what made the COMMIT's waits short; nil before
	fate     atomic.Int32 // undecided until one of both sides decides
}

// What becomes of a transaction is decided once: by conclude, which commits it, or by finish,
// which gives it up before.
const (
	undecided int32 = iota
	committing
	givenUp
)

// run calls fn and commits. However fn ends (it returns, panics or calls Goexit),
// the connection is restored.
func (t *txn) run(ctx context.Context, fn func(context.Context, *sql.Tx) error) (err error) {
	settle := t.watch(ctx)
	var conclude func() error // nil: fn has not returned
	var fnErr error
	defer func() {
		overdue := false
		if overdue, err = t.finish(ctx, settle, conclude); overdue {
			err = t.claim.explain(errors.Join(endOf(ctx), err, fnErr))
		}
		if t.claim.Took != nil {
			t.claim.Took(time.Since(t.since))
		}
	}()
	fnErr = fn(ctx, t.tx.Tx)
	conclude = func() error { return t.conclude(ctx, fnErr) }
	return nil
}

// errOverdue: the server, or the network to it, has not answered.
var errOverdue = errors.New("no answer at its end")

// finish settles what ends the transaction beside fn, concludes it if fn has returned, and closes it. It
// waits until ctx has ended, and the claim's patience after that: what has not come to its outcome then is overdue. Once
// the outcome is known, it waits for that patience at most. What is left then is done when the server
// answers or the network gives up: not all that drivers do can be ended.
func (t *txn) finish(ctx context.Context, settle func(), conclude func() error) (overdue bool, err error) {
	concluded, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		settle()
		var err error
		if conclude != nil {
			err = conclude()
		}
		concluded <- err
		closed <- t.close()
	}()
	over, late := ctx.Done(), (<-chan time.Time)(nil)
	wait := func(result <-chan error) (overdue bool, err error) {
		for {
			select {
			case err := <-result:
				return false, err
			case <-over:
				over, late = nil, time.After(t.claim.patience())
			case <-late:
				select {
				case err := <-result: // in the last moment
					return false, err
				default:
					return true, errOverdue
				}
			}
		}
	}
	if overdue, err = wait(concluded); overdue {
		if !t.fate.CompareAndSwap(undecided, givenUp) {
			err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		return true, err
	}
	if late == nil {
		over, late = nil, time.After(t.claim.patience())
	}
	unclosed, closeErr := wait(closed)
	if closeErr == nil || unclosed || err == nil && conclude != nil { // a commit stands, whatever comes after
		return false, err
	}
	return false, errors.Join(err, closeErr)
}

// conclude commits, after fn has returned err. The library's own watch does not end the transaction any more.
func (t *txn) conclude(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return t.claim.explain(errors.Join(endOf(ctx), err))
	case t.fence.Ended():
		return t.claim.explain(errors.Join(ErrTxnEnded, err))
	case err != nil:
		t.discard = t.discard || dialect.Classify(err) == dialect.Elsewhere // for the next one to reach the right server
		return err
	}
	if t.claim.Valid != nil {
		if err := t.claim.Valid(); err != nil {
			return t.claim.explain(err)
		}
	}
	if !t.fate.CompareAndSwap(undecided, committing) {
		return t.claim.explain(errors.Join(endOf(ctx), errOverdue)) // nobody waits for it any more
	}
	if err := t.commit(ctx); err != nil {
		return t.claim.explain(err)
	}
	return nil
}

// watch rolls back when ctx ends. The function it returns stops that, or waits
// for the rollback when it has begun.
func (t *txn) watch(ctx context.Context) (settle func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		t.rollback()
		t.turn.Give() // fn may go on for ever, and the lock is free
	})
	return sync.OnceFunc(func() {
		if !stop() {
			<-done
		}
	})
}

func (t *txn) commit(ctx context.Context) error {
	// A COMMIT that was sent is waited for, as long as that makes sense: giving
	// up leaves its outcome unknown.
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(t.claim.patience()*3/4, cancel) })
	defer stop()
	// The COMMIT, too, asks for locks by short waits: a busy handler of the DSN's would hear of no ctx's end.
	var err error
	if t.unhasten, err = t.Dialect.Hasten(context.WithoutCancel(ctx), t.conn); err != nil {
		return err
	}
	err = t.end(patient, t.fence.Commit)
	if deadline, ok := ctx.Deadline(); err != nil && ok && !time.Now().Before(deadline) {
		<-ctx.Done() // its timer is late; the server's own was not
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dialect.ErrEnded):
		return ErrTxnEnded
	case ctx.Err() != nil:
		err = errors.Join(endOf(ctx), err)
	}
	if errors.Is(err, dialect.ErrUncertain) {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return fmt.Errorf("commit: %w", err)
}

func (t *txn) rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), t.claim.patience()*3/4)
	defer cancel()
	_ = t.end(ctx, t.fence.Rollback) // an error is reported by what led here
}

// end ends the transaction by how, unless it was ended before. An error means
// that somebody else ended it, perhaps just now and with statements still on
// their way, or that the connection is broken: it is not for the pool again.
func (t *txn) end(ctx context.Context, how func(context.Context, *dialect.Txn) error) error {
	if t.ended {
		return nil
	}
	t.ended = true
	stop := context.AfterFunc(ctx, t.cancel) // ends a call of the driver's that goes by the ctx of BEGIN
	defer stop()
	err := how(ctx, t.tx)
	if err != nil {
		// Of sql.ErrTxDone close will know more.
		t.discard = t.discard || !t.Dialect.RolledBack(err) && !errors.Is(err, sql.ErrTxDone) ||
			dialect.Classify(err) == dialect.Elsewhere
	}
	return err
}

// close rolls back what was not committed, restores the connection and gives it
// back to the pool. A connection on which a goroutine of fn's may still have a statement
// under way is not restored but thrown away, with its fence.
func (t *txn) close() (err error) {
	if t.tx != nil {
		t.rollback()
		t.discard = !t.tx.End() || t.discard // what failed before its COMMIT has left it open
	}
	if t.unhasten != nil {
		err = t.unhasten()
		t.discard = t.discard || err != nil
	}
	if t.fence != nil {
		err = errors.Join(err, t.fence.Lift(t.discard))
	}
	if t.cancel != nil {
		t.cancel()
	}
	defer t.turn.Give()
	if closeErr := t.conn.Close(); !errors.Is(closeErr, sql.ErrConnDone) && !errors.Is(closeErr, driver.ErrBadConn) {
		err = errors.Join(err, closeErr)
	}
	return err
}

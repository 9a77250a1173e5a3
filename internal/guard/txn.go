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

	// restore undoes what made the COMMIT's waits short; nil before.
	restore    func() error
	committing atomic.Bool
	step       chan struct{} // closed when the last step of the end is done; nil before the first
}

// run calls fn and commits. However fn ends (it returns, panics or calls Goexit),
// the connection is restored.
func (t *txn) run(ctx context.Context, fn func(context.Context, *sql.Tx) error) (err error) {
	settle := t.watch(ctx)
	var overdue <-chan struct{}
	defer func() {
		if overdue == nil {
			overdue = t.overdue(ctx)
		}
		closeErr := t.inTime(overdue, func() error { settle(); return t.close() })
		if err != nil && closeErr != nil && !errors.Is(closeErr, errOverdue) { // a commit stands, whatever comes after
			err = errors.Join(err, closeErr)
		}
		if t.claim.Took != nil {
			t.claim.Took(time.Since(t.since))
		}
	}()
	fnErr := fn(ctx, t.tx.Tx)
	overdue = t.overdue(ctx)
	err = t.inTime(overdue, func() error { settle(); return t.conclude(ctx, fnErr) })
	if errors.Is(err, errOverdue) {
		err = errors.Join(endOf(ctx), err, fnErr)
		if t.committing.Load() {
			err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		err = t.claim.explain(err)
	}
	return err
}

// errOverdue: the server, or the network to it, has not answered.
var errOverdue = errors.New("no answer at its end")

// overdue is closed when ctx has ended, and the claim's patience after that.
func (t *txn) overdue(ctx context.Context) <-chan struct{} {
	overdue := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(t.claim.patience(), func() { close(overdue) }) })
	return overdue
}

// inTime runs a step of the end, after the one before. When it is overdue, it returns
// errOverdue, and what is left is done when the server answers or the network gives up: not
// all that drivers do can be ended.
func (t *txn) inTime(overdue <-chan struct{}, f func() error) error {
	before, done, result := t.step, make(chan struct{}), make(chan error, 1)
	t.step = done
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		result <- f()
	}()
	select {
	case err := <-result:
		return err
	case <-overdue:
		return errOverdue
	}
}

// conclude commits, after fn has returned err. Nobody else ends the transaction now.
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
	t.committing.Store(true)
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
	if t.restore, err = t.Dialect.Hasten(context.WithoutCancel(ctx), t.conn); err != nil {
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
	if t.restore != nil {
		err = t.restore()
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

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
	since  time.Time // when it took the claim
	turn   *Turn     // given back at its end

	ended   bool // end was called
	discard bool // the connection's state is not known: it is not for the pool

	unhasten func() error // undoes Hasten after the end; nil if there is nothing to undo
	fate     atomic.Int32 // undecided, committing or givenUp
}

// The fate of a transaction is decided once, by compare-and-swap. commitOrFail decides to commit
// it, or finish gives it up before.
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
			err = t.claim.explain(errors.Join(ctxError(ctx), err, fnErr))
		}
		if t.claim.Took != nil {
			t.claim.Took(time.Since(t.since))
		}
	}()
	fnErr = fn(ctx, t.tx.Tx)
	conclude = func() error { return t.commitOrFail(ctx, fnErr) }
	return nil
}

// errOverdue means that the server, or the network to it, has not answered.
var errOverdue = errors.New("no answer at its end")

// finish ends the transaction, on a goroutine of its own. It calls settle, which stops watch; then
// conclude, if fn has returned; then close.
//
// finish waits for the outcome until ctx has ended, and for the claim's patience after that. If
// there is no outcome by then, overdue is true. Once there is an outcome, finish waits for close,
// for that patience at most. Not every call of a driver can be ended, so the goroutine may go on
// after finish has returned, until the server answers or the network gives up.
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
				case err := <-result: // it came in the last moment
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

// commitOrFail commits if fn has returned nil and nothing speaks against it. Otherwise it returns
// the error, and close rolls back. watch was stopped before: it does not end the transaction any
// more.
func (t *txn) commitOrFail(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return t.claim.explain(errors.Join(ctxError(ctx), err))
	case t.fence.Ended():
		return t.claim.explain(errors.Join(ErrTxnEnded, err))
	case err != nil:
		t.discard = t.discard || dialect.Classify(err) == dialect.Elsewhere // so the next transaction reaches the server that takes writes
		return err
	}
	if t.claim.Valid != nil {
		if err := t.claim.Valid(); err != nil {
			return t.claim.explain(err)
		}
	}
	if !t.fate.CompareAndSwap(undecided, committing) {
		return t.claim.explain(errors.Join(ctxError(ctx), errOverdue)) // finish has given it up
	}
	if err := t.commit(ctx); err != nil {
		return t.claim.explain(err)
	}
	return nil
}

// watch rolls the transaction back when ctx ends. settle stops that; if the rollback has begun,
// settle waits for it.
func (t *txn) watch(ctx context.Context) (settle func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		t.rollback()
		t.turn.Give() // fn may go on for ever, but the lock is free
	})
	return sync.OnceFunc(func() {
		if !stop() {
			<-done
		}
	})
}

func (t *txn) commit(ctx context.Context) error {
	// A COMMIT that was sent is waited for, also after ctx has ended: giving up leaves its outcome
	// unknown.
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(t.claim.patience()*3/4, cancel) })
	defer stop()
	// COMMIT may wait for a lock, too. The DSN's own busy timeout would not notice that a ctx ends,
	// so these waits are made short.
	var err error
	switch t.unhasten, err = t.Dialect.Hasten(context.WithoutCancel(ctx), t.conn); {
	case errors.Is(err, sql.ErrConnDone): // a goroutine of fn's has ended the transaction, on a broken connection
		return ErrTxnEnded
	case err != nil:
		return err
	}
	err = t.end(patient, t.fence.Commit)
	if deadline, ok := ctx.Deadline(); err != nil && ok && !time.Now().Before(deadline) {
		<-ctx.Done() // the server's timer was earlier than ctx's, which is due
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dialect.ErrEnded):
		return ErrTxnEnded
	case ctx.Err() != nil:
		err = errors.Join(ctxError(ctx), err)
	}
	if errors.Is(err, dialect.ErrUncertain) {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return fmt.Errorf("commit: %w", err)
}

func (t *txn) rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), t.claim.patience()*3/4)
	defer cancel()
	_ = t.end(ctx, t.fence.Rollback) // the error that led here is reported instead
}

// end ends the transaction by how, unless it was called before. An error means one of two things:
// the transaction was ended by something else, perhaps just now and with statements still under
// way, or the connection is broken. Then the connection is not for the pool again, unless the error
// says that the server has rolled back.
func (t *txn) end(ctx context.Context, how func(context.Context, *dialect.Txn) error) error {
	if t.ended {
		return nil
	}
	t.ended = true
	stop := context.AfterFunc(ctx, t.cancel) // ends a driver's call that goes by the ctx of BEGIN
	defer stop()
	err := how(ctx, t.tx)
	if err != nil {
		// What sql.ErrTxDone means for the connection, close finds out.
		t.discard = t.discard || !t.Dialect.RolledBack(err) && !errors.Is(err, sql.ErrTxDone) ||
			dialect.Classify(err) == dialect.Elsewhere
	}
	return err
}

// close rolls back what was not committed, restores the connection and gives it back to the pool.
// If a goroutine of fn's may still have a statement under way on the connection, the connection is
// not restored but discarded, with its fence still in place.
func (t *txn) close() (err error) {
	if t.tx != nil {
		t.rollback()
		t.discard = !t.tx.End() || t.discard // a commit that failed before its COMMIT has left it open
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

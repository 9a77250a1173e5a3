package election

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
	"github.com/sqlelect/election/internal/sqldb"
)

// guardedTxn is one guarded transaction, on a connection of its own. It is over
// when close has returned.
type guardedTxn struct {
	*claim
	conn   *sql.Conn
	fence  dialect.Fence
	tx     *dialect.Txn
	cancel context.CancelFunc
	since  time.Time   // it holds the guard
	turn   *sqldb.Turn // it gives at its end

	ended   bool // by us, or found ended
	discard bool // the connection may be in a state that we do not know

	// restore undoes what made the COMMIT's waits short; nil before.
	restore    func() error
	committing atomic.Bool
	step       chan struct{} // closed when the last step of the end is done; nil before the first
}

// run calls fn and commits. However fn ends (it returns, panics or calls Goexit),
// the connection is restored.
func (g *guardedTxn) run(ctx context.Context, fn func(context.Context, *sql.Tx) error) (err error) {
	settle := g.watch(ctx)
	var overdue <-chan struct{}
	defer func() {
		if overdue == nil {
			overdue = g.overdue(ctx)
		}
		closeErr := g.inTime(overdue, func() error { settle(); return g.close() })
		if err != nil && closeErr != nil && !errors.Is(closeErr, errOverdue) { // a commit stands, whatever comes after
			err = errors.Join(err, closeErr)
		}
		if g.reign.guardTook != nil {
			g.reign.guardTook(time.Since(g.since))
		}
	}()
	fnErr := fn(ctx, g.tx.Tx)
	overdue = g.overdue(ctx)
	err = g.inTime(overdue, func() error { settle(); return g.conclude(ctx, fnErr) })
	if errors.Is(err, errOverdue) {
		err = errors.Join(endOf(ctx), err, fnErr)
		if g.committing.Load() {
			err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		err = g.failed(err)
	}
	return err
}

// errOverdue: the server, or the network to it, has not answered.
var errOverdue = errors.New("no answer at its end")

// overdue is closed when ctx has ended, and endPatience after that.
func (g *guardedTxn) overdue(ctx context.Context) <-chan struct{} {
	overdue := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(g.endPatience(), func() { close(overdue) }) })
	return overdue
}

// inTime runs a step of the end, after the one before. When it is overdue, it returns
// errOverdue, and what is left is done when the server answers or the network gives up: not
// all that drivers do can be ended.
func (g *guardedTxn) inTime(overdue <-chan struct{}, f func() error) error {
	before, done, result := g.step, make(chan struct{}), make(chan error, 1)
	g.step = done
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
func (g *guardedTxn) conclude(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return g.failed(errors.Join(endOf(ctx), err))
	case g.fence.Ended():
		return g.failed(errors.Join(ErrTxnEnded, err))
	case err != nil:
		g.discard = g.discard || dialect.Classify(err) == dialect.Elsewhere // for the next one to reach the right server
		return err
	case g.reign.isCopys():
		return g.failed(errCopied)
	}
	g.committing.Store(true)
	if err := g.commit(ctx); err != nil {
		return g.failed(err)
	}
	return nil
}

// watch rolls back when ctx ends. The function it returns stops that, or waits
// for the rollback when it has begun.
func (g *guardedTxn) watch(ctx context.Context) (settle func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		g.rollback()
		g.turn.Give() // fn may go on for ever, and the lock is free
	})
	return sync.OnceFunc(func() {
		if !stop() {
			<-done
		}
	})
}

// endPatience is for how long the end of a transaction is waited for that has no
// time left. It waits for no lock, so only a dead server takes longer. In a reign it
// is less, where less than four times as much lies between the end of its trust and
// that of its lease. COMMIT and ROLLBACK get most of it, so that their own word is heard.
const endPatience = 2 * time.Second

func (c *claim) endPatience() time.Duration {
	if c.reign.patience > 0 {
		return c.reign.patience
	}
	return endPatience
}

func (g *guardedTxn) commit(ctx context.Context) error {
	// A COMMIT that was sent is waited for, as long as that makes sense: giving
	// up leaves its outcome unknown.
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(g.endPatience()*3/4, cancel) })
	defer stop()
	// The COMMIT, too, asks for locks by short waits: a busy handler of the DSN's would hear of no ctx's end.
	var err error
	if g.restore, err = g.dialect.Hasten(context.WithoutCancel(ctx), g.conn); err != nil {
		return err
	}
	err = g.end(patient, g.fence.Commit)
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

func (g *guardedTxn) rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), g.endPatience()*3/4)
	defer cancel()
	_ = g.end(ctx, g.fence.Rollback) // an error is reported by what led here
}

// end ends the transaction by how, unless it was ended before. An error means
// that somebody else ended it, perhaps just now and with statements still on
// their way, or that the connection is broken: it is not for the pool again.
func (g *guardedTxn) end(ctx context.Context, how func(context.Context, *dialect.Txn) error) error {
	if g.ended {
		return nil
	}
	g.ended = true
	stop := context.AfterFunc(ctx, g.cancel) // ends a call of the driver's that goes by the ctx of BEGIN
	defer stop()
	err := how(ctx, g.tx)
	if err != nil {
		// Of sql.ErrTxDone close will know more.
		g.discard = g.discard || !g.dialect.RolledBack(err) && !errors.Is(err, sql.ErrTxDone) ||
			dialect.Classify(err) == dialect.Elsewhere
	}
	return err
}

// close rolls back what was not committed, restores the connection and gives it
// back to the pool. A connection on which a goroutine of fn's may still have a statement
// under way is not restored but thrown away, with its fence.
func (g *guardedTxn) close() (err error) {
	if g.tx != nil {
		g.rollback()
		g.discard = !g.tx.End() || g.discard // what failed before its COMMIT has left it open
	}
	if g.restore != nil {
		err = g.restore()
	}
	if g.fence != nil {
		err = errors.Join(err, g.fence.Lift(g.discard))
	}
	if g.cancel != nil {
		g.cancel()
	}
	defer g.turn.Give()
	if closeErr := g.conn.Close(); !errors.Is(closeErr, sql.ErrConnDone) && !errors.Is(closeErr, driver.ErrBadConn) {
		err = errors.Join(err, closeErr)
	}
	return err
}

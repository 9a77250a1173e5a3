package wakeup

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/sqlelect/election/internal/dialect"
)

// holdingLocks has locks on one connection of its own. When a holding of this process is over, its
// lock comes free, and listeners of other processes notice. (The connection that waits for other
// processes' locks cannot have any itself, because it is blocked.) The connection is open while a
// lock is wanted. If anything fails, the locks are missing and wake no listener: the others poll.
type holdingLocks struct {
	pool    pool
	changed chan struct{} // has room for one: wanted has changed

	mu     sync.Mutex
	wanted map[string]dialect.HoldingLock // by the subject's key
}

const (
	// lockRetry is the pause after a failure, such as a lock that another process still has.
	lockRetry = time.Second
	// lockCheck is how often the connection is used while it has locks. Some balancers close a
	// connection that was idle for 5 s.
	lockCheck = 4 * time.Second
	// lockTimeout bounds one round of statements.
	lockTimeout = 5 * time.Second
)

func newHoldingLocks(db *sql.DB) *holdingLocks {
	return &holdingLocks{pool: pool{db}, changed: make(chan struct{}, 1), wanted: map[string]dialect.HoldingLock{}}
}

// want says which lock to hold for the subject of that key. The zero lock means none. It does not
// block.
func (r *holdingLocks) want(key string, lock dialect.HoldingLock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if lock == r.wanted[key] {
		return
	}
	if r.wanted[key] = lock; lock == (dialect.HoldingLock{}) {
		delete(r.wanted, key)
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *holdingLocks) current() map[string]dialect.HoldingLock {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.wanted)
}

// keep holds what is wanted until ctx ends. It drops the error of hold: without the locks,
// listeners of other processes are woken late or not at all, and poll.
func (r *holdingLocks) keep(ctx context.Context) {
	for {
		var again <-chan time.Time
		if len(r.current()) > 0 {
			if err := r.hold(ctx); err != nil {
				again = time.After(lockRetry)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-r.changed:
		}
	}
}

// hold takes and frees locks on one connection while any is wanted. It returns errSmallPool when
// the pool has no connection left for the work, beside this one and the one that listens.
func (r *holdingLocks) hold(ctx context.Context) error {
	if !r.pool.fits(2) {
		return errSmallPool
	}
	conn, err := r.pool.db.Conn(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { cancel(r.pool.outgrown(ctx, 2)) })
	defer beside.Wait()
	defer cancel(nil)
	// Closing the connection frees all locks on it, whatever could not be freed by a statement. It
	// must not return to the pool with a lock.
	defer dialect.Discard(conn)
	held := map[string]dialect.HoldingLock{}
	check := time.NewTicker(lockCheck)
	defer check.Stop()
	for {
		if err := r.adjust(ctx, conn, held); err != nil || len(held) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.changed:
		case <-check.C:
			if err := r.check(ctx, conn); err != nil {
				return err
			}
		}
	}
}

// check uses the connection. If it fails, the locks may be gone, and hold has to begin anew.
func (r *holdingLocks) check(ctx context.Context, conn *sql.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	return conn.PingContext(ctx)
}

// errLockTaken means that a lock did not come free in time.
var errLockTaken = errors.New("somebody else has the lock of the holding")

// adjust takes and frees locks until held is what is wanted. It frees first, because listeners wait
// for that.
func (r *holdingLocks) adjust(ctx context.Context, conn *sql.Conn, held map[string]dialect.HoldingLock) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	wanted := r.current()
	for key, lock := range held {
		if lock == wanted[key] {
			continue
		}
		if _, err := conn.ExecContext(ctx, lock.Free); err != nil {
			return err
		}
		delete(held, key)
	}
	for key, lock := range wanted {
		if held[key] == lock {
			continue
		}
		var got sql.NullInt64
		if err := conn.QueryRowContext(ctx, lock.Take).Scan(&got); err != nil {
			return err
		}
		// Any other answer, NULL included, means that the lock was not taken.
		if got.Int64 != 1 {
			return errLockTaken
		}
		held[key] = lock
	}
	return nil
}

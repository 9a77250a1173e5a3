package wakeup

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// pool is the program's connection pool. Wake-ups take a connection of it only if one is left for
// the work: a hint must not cost the election.
type pool struct{ db *sql.DB }

var (
	// errSmallPool means that a pool cannot spare a connection.
	errSmallPool = errors.New("the pool has only one connection, which is needed for the work: allow at least two (SetMaxOpenConns)")
	// errBusyPool means that a pool has not given a second connection in time.
	errBusyPool = errors.New("no second connection is to be had beside: the pool below database/sql has only one, or all are in use")
)

const (
	// poolCheck is how often the pool's limit is looked at: a program may lower it at any time.
	poolCheck = 200 * time.Millisecond
	// spareWait is how long the work has to do without a connection that may be its only one, at
	// the first try; mostSpareWait is the most at a later try.
	spareWait, mostSpareWait = 100 * time.Millisecond, 500 * time.Millisecond
)

// fits reports whether the pool has a connection left for the work while n others are taken.
func (p pool) fits(n int) bool {
	limit := p.db.Stats().MaxOpenConnections
	return limit == 0 || limit > n
}

// outgrown waits until the pool has no connection left for the work while n others are taken, and
// returns errSmallPool. If ctx ends first, it returns the cause.
func (p pool) outgrown(ctx context.Context, n int) error {
	tick := time.NewTicker(poolCheck)
	defer tick.Stop()
	for p.fits(n) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return errSmallPool
}

// spare takes a connection, if the pool can give a second one at the same time. It has to try,
// because a pool below database/sql may have a limit that cannot be asked for. The second
// connection may have to be opened first, and that may take longer than the work can do without the
// first one. So after a while spare gives the first one back, waits for the second one, and tries
// again with that one.
func (p pool) spare(ctx context.Context) (*sql.Conn, error) {
	conn, err := p.db.Conn(ctx)
	wait := spareWait
	const tries = 2
	for range tries {
		if err != nil {
			return nil, err
		}
		var other *sql.Conn
		begun, ended := time.Now(), make(chan struct{})
		go func() {
			defer close(ended)
			other, err = p.db.Conn(ctx)
		}()
		missed := time.NewTimer(wait)
		select {
		case <-ended:
			missed.Stop()
			if err != nil {
				_ = conn.Close()
				return nil, err
			}
			_ = other.Close()
			return conn, nil
		case <-missed.C:
			_ = conn.Close()
			<-ended
			// The next try may take twice as long as this one took: the pool may have closed what
			// it was given back, and open a connection again.
			conn, wait = other, min(2*time.Since(begun), mostSpareWait)
		}
	}
	if err == nil {
		_ = conn.Close()
	}
	return nil, errBusyPool
}

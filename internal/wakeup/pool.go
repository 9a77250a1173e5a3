package wakeup

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// pool is the program's, of which wake-ups take connections only while the work has one
// left: a hint must not cost the election.
type pool struct{ db *sql.DB }

var (
	// errSmallPool means that a pool cannot spare a connection.
	errSmallPool = errors.New("the pool has only one connection, which is needed for the work: allow at least two (SetMaxOpenConns)")
	// errBusyPool means that a pool has not spared one in time.
	errBusyPool = errors.New("no second connection is to be had beside: the pool below database/sql has only one, or all are in use")
)

const (
	// poolCheck is how often the pool's limit is looked at: a program may lower it at any time.
	poolCheck = 200 * time.Millisecond
	// spareWait is for how long the work may miss a connection that may be its only one at
	// first, mostSpareWait at most.
	spareWait, mostSpareWait = 100 * time.Millisecond, 500 * time.Millisecond
)

// fits reports whether the pool has a connection left for the work when n others are taken.
func (p pool) fits(n int) bool {
	limit := p.db.Stats().MaxOpenConnections
	return limit == 0 || limit > n
}

// outgrown waits until the pool has no connection left for the work when n others are
// taken, and returns errSmallPool, or until ctx ends.
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

// spare takes a connection if the pool has another one at the same time: there may be a
// pool below database/sql, whose limit nobody can ask for. The other one may have to be
// opened first, which may take longer than the first one can be missed. So the first one is
// given back meanwhile, and is there when the other one is.
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
			conn, wait = other, min(2*time.Since(begun), mostSpareWait)
		}
	}
	if err == nil {
		_ = conn.Close()
	}
	return nil, errBusyPool
}

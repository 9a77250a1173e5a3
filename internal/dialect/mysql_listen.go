package dialect

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"
)

// mysqlPoll is how often leader rows are read where there is no lock to wait
// for. That makes about 2% of a core here; a lease takes seconds to run out, so
// that a few hundredths of one are little.
const mysqlPoll = 20 * time.Millisecond

// mysqlLockWait bounds a wait for a lock: so long can it go on at the server when its
// client has gone, and so long does a subject that is added meanwhile have to wait until it
// is looked at.
const mysqlLockWait = time.Second

// mysqlWaitBelow is an expression for a wait, in seconds, that is no slow query, nor one
// that the server ends for its length: at most half of each of these settings, unless
// that is 0 or hardly more.
func mysqlWaitBelow(settings ...string) string {
	wait := seconds(mysqlLockWait)
	for _, setting := range settings {
		wait = "LEAST(" + wait + ", IF(@@" + setting + " >= 0.04, @@" + setting + " / 2, " + wait + "))"
	}
	return wait
}

// mysqlListener waits for the lock of the reign that it saw last, which the
// leader's process holds in another session (see HoldingLock): a wait that keeps no
// transaction open, and ends within a fraction of a millisecond. One session can
// wait for one lock only, so several subjects are polled, all in one statement.
type mysqlListener struct {
	conn  *sql.Conn
	wait  string // as mysqlWaitBelow returns it
	polls bool   // there is no lock that reaches all members
	// The lock that was found free: its reign has ended; or it has no holder, because
	// the leader's process has yet to take it, or does not watch, or is an older one.
	// It is asked for again after some pauses, each time twice as many, instead of
	// spinning.
	free         string
	pauses, left int
}

// waitMySQL makes d wait for locks, for at most wait at a time.
func (d *Dialect) waitMySQL(wait string) {
	d.listen = func(_ context.Context, _ *sql.DB, conn *sql.Conn) (Listener, error) {
		return &mysqlListener{conn: conn, wait: wait}, nil
	}
	d.holdingLock = func(s Subject, h Holding) HoldingLock {
		name := holdingLockName(s, h)
		return HoldingLock{
			Take: "SELECT GET_LOCK('" + name + "', " + wait + ")",
			Free: "DO RELEASE_LOCK('" + name + "')",
		}
	}
}

func (l *mysqlListener) Wait(ctx context.Context, watched []Watched, nudge <-chan struct{}) (string, error) {
	lock := ""
	if !l.polls && len(watched) == 1 && watched[0].Holder != "" {
		lock = holdingLockName(watched[0].Subject, watched[0].Holding)
	}
	if lock == "" || lock == l.free && l.left > 0 {
		l.left--
		_, err := pause(ctx, pollOf(mysqlPoll, watched), nudge)
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, mysqlLockWait+deadAfter)
	defer cancel()
	var used bool // before
	var got, freed sql.NullInt64
	// Freed in the same statement, for the next one in the queue.
	err := l.conn.QueryRowContext(ctx, "SELECT IS_USED_LOCK('"+lock+"') IS NOT NULL, GET_LOCK('"+lock+"', "+l.wait+"), RELEASE_LOCK('"+lock+"')").Scan(&used, &got, &freed)
	if got.Valid && got.Int64 == 0 { // somebody held it all the time
		l.free = ""
		return "", err
	}
	const mostPauses = 64
	heard := ""
	l.pauses = min(2*l.pauses, mostPauses)
	if lock != l.free {
		l.free, l.pauses = lock, 1
		if used && got.Valid {
			heard = watched[0].Key()
		}
	}
	l.left = l.pauses
	return heard, err
}

// Close closes the connection, with whatever it holds or still waits for.
func (l *mysqlListener) Close() { Discard(l.conn) }

// holdingLockName is within the 64 characters that a lock's name may have. Some
// servers fold the case of tables; where another one does not, two tables that
// differ in case may share a lock, and wake each other for nothing.
func holdingLockName(s Subject, h Holding) string {
	return "election." + digest(strings.ToLower(s.Table), s.Name, strconv.FormatInt(h.Number, 10))
}

package dialect

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"
)

// mysqlPoll is the time between two reads of the leader rows, if there is no lock to wait for. The
// reads take about 2% of a core. A lease takes seconds to run out, so 20 ms more are little.
const mysqlPoll = 20 * time.Millisecond

// mysqlLockWait bounds one wait for a lock. The wait can go on for that long at the server after
// its client has gone. A subject that is added during the wait is looked at when the wait is over.
const mysqlLockWait = time.Second

// mysqlWaitBelow is an expression for a wait in seconds: mysqlLockWait, but at most half of each of
// the settings. So the wait is no slow query, and the server does not end it for its length. A
// setting that is 0, or hardly more, does not count.
func mysqlWaitBelow(settings ...string) string {
	wait := seconds(mysqlLockWait)
	for _, setting := range settings {
		wait = "LEAST(" + wait + ", IF(@@" + setting + " >= 0.04, @@" + setting + " / 2, " + wait + "))"
	}
	return wait
}

// mysqlListener waits for the lock of the reign that it saw last. The leader's process holds this
// lock in another session (see HoldingLock). The wait keeps no transaction open, and ends within a
// fraction of a millisecond after the lock is free. One session can wait for one lock only, so
// several subjects are polled, all in one statement.
type mysqlListener struct {
	conn  *sql.Conn
	wait  string // as mysqlWaitBelow returns it
	polls bool   // there is no lock that reaches all members
	// free is the lock that was found free. Its reign has ended, or the leader's process does not
	// hold the lock: it has yet to take it, does not watch, or runs an older version. The listener
	// does not spin: it pauses before it asks for this lock again, each time twice as many times.
	free         string
	pauses, left int
}

// waitMySQL makes d listen by waits for locks, each for at most wait.
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
	var used bool // whether the lock had a holder
	var got, freed sql.NullInt64
	// The same statement frees the lock, for the next listener in the queue.
	err := l.conn.QueryRowContext(ctx, "SELECT IS_USED_LOCK('"+lock+"') IS NOT NULL, GET_LOCK('"+lock+"', "+l.wait+"), RELEASE_LOCK('"+lock+"')").Scan(&used, &got, &freed)
	if got.Valid && got.Int64 == 0 { // another session held it all the time
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

// Close closes the connection, which frees all locks that it holds, and ends its wait.
func (l *mysqlListener) Close() { Discard(l.conn) }

// holdingLockName returns a name within the 64 characters that a lock's name may have. It folds the
// table's case, as some servers do. On other servers two tables that differ only in case may share
// a lock, and wake each other for nothing.
func holdingLockName(s Subject, h Holding) string {
	return "election." + digest(strings.ToLower(s.Table), s.Name, strconv.FormatInt(h.Number, 10))
}

package dialect

import (
	"context"
	"database/sql"
	"time"
)

// How often data_version is asked for. In WAL mode asking takes about 10 µs, and
// no lock that a writer would meet; but to wake up at all costs several times
// that: every 5 ms makes 2% of a core, every 2 ms twice as much, and a COMMIT with
// its fsync takes as long. In the other modes one who asks is a reader, and COMMIT
// is refused while there is one: be one more rarely.
const (
	sqlitePoll       = 5 * time.Millisecond
	sqlitePollLocked = 20 * time.Millisecond
)

// sqliteListener polls for commits of other processes, by a counter that SQLite
// keeps per connection. Members in the same process nudge.
type sqliteListener struct {
	conn    *sql.Conn
	poll    time.Duration
	version int64
}

func listenSQLite(ctx context.Context, _ *sql.DB, conn *sql.Conn) (Listener, error) {
	l := &sqliteListener{conn: conn, poll: sqlitePollLocked}
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return nil, err
	}
	if mode == "wal" {
		l.poll = sqlitePoll
	}
	return l, nil
}

func (l *sqliteListener) Wait(ctx context.Context, watched []Watched, nudge <-chan struct{}) (string, error) {
	for {
		nudged, err := pause(ctx, pollOf(l.poll, watched), nudge)
		if err != nil {
			return "", err
		}
		seen := l.version
		// Asked before the rows are looked at: what is committed in between is
		// looked at twice, and nothing is overlooked.
		err = l.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&l.version)
		switch {
		case Classify(err) == Retry: // locked; whoever holds the lock may be changing the leader
			return "", nil
		case err != nil || nudged || l.version != seen:
			return "", err
		}
	}
}

// Close gives the connection back, on which nothing was set: closing it could
// drop a database that is in memory.
func (l *sqliteListener) Close() { _ = l.conn.Close() }

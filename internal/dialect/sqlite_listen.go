package dialect

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"runtime"
	"time"
)

// How often a listener looks for commits. Every 5 ms makes 1 to 2% of a core, most of it for
// waking up; every 2 ms twice as much, and a COMMIT with its fsync takes as long. It
// looks at the files' sizes and times. Only when these have changed, and now and then, does it
// ask for data_version, a statement.
const (
	sqlitePoll = 5 * time.Millisecond
	// sqliteRest is when it asks at the latest: an older kernel keeps times by its tick, and the
	// second of two writes in one tick may leave no trace.
	sqliteRest = 250 * time.Millisecond
	// sqlitePending is for how long it asks at each look once the files have changed: a commit
	// writes them first, and counts after its fsync.
	sqlitePending = 500 * time.Millisecond
	// sqliteSettled is for how long it asks on when it has seen a commit: another one may have
	// been pending.
	sqliteSettled = 10 * time.Millisecond
	// sqlitePollBlind is how often it asks where it can look at no files, and not in WAL mode:
	// there one who asks is a reader, and COMMIT is refused while there is one.
	sqlitePollBlind = 20 * time.Millisecond
)

// sqliteListener polls for commits of other processes, by a counter that SQLite
// keeps per connection. Members in the same process nudge.
type sqliteListener struct {
	conn    *sql.Conn
	restore func() error
	poll    time.Duration
	files   sqliteFiles
	version int64     // data_version, as last asked
	asked   time.Time // when that was
	until   time.Time // it asks at each look
}

func listenSQLite(ctx context.Context, _ *sql.DB, conn *sql.Conn) (Listener, error) {
	l := &sqliteListener{conn: conn, poll: sqlitePoll}
	var mode, file string
	err := conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode)
	if err == nil {
		err = conn.QueryRowContext(ctx, sqliteFileQuery).Scan(&file)
	}
	if err == nil {
		l.restore, err = hastenSQLite(ctx, conn)
		if err != nil {
			err = errors.Join(err, orDiscard(conn, l.restore()))
		}
	}
	if err != nil {
		return nil, err
	}
	switch l.files.name = file; {
	case file == "" || runtime.GOOS == "windows": // which may tell of a write only when the file is closed
		l.files.name = ""
		if mode != "wal" {
			l.poll = sqlitePollBlind
		}
	default:
		l.files.changed()
	}
	return l, nil
}

func (l *sqliteListener) Wait(ctx context.Context, watched []Watched, nudge <-chan struct{}) (string, error) {
	for {
		nudged, err := pause(ctx, pollOf(l.poll, watched), nudge)
		if err != nil {
			return "", err
		}
		if !nudged && !l.due(time.Now()) {
			continue
		}
		seen := l.version
		// Asked before the rows are looked at: what is committed in between is
		// looked at twice, and nothing is overlooked.
		err = l.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&l.version)
		switch {
		case Classify(err) == Retry: // locked; whoever holds the lock may be changing the leader
			return "", nil
		case err == nil && l.version != seen:
			l.until = l.asked.Add(sqliteSettled)
			return "", nil
		case err != nil || nudged:
			return "", err
		}
	}
}

// due reports whether to ask for data_version now.
func (l *sqliteListener) due(now time.Time) bool {
	if l.files.name != "" {
		if l.files.changed() {
			l.until = now.Add(sqlitePending)
		}
		if now.After(l.until) && now.Sub(l.asked) < sqliteRest {
			return false
		}
	}
	l.asked = now
	return true
}

// Close gives the connection back as it was: closing it could drop a database that is in
// memory.
func (l *sqliteListener) Close() {
	_ = orDiscard(l.conn, l.restore())
	_ = l.conn.Close()
}

// sqliteFiles are a database's own file and its write-ahead log, one of which every commit
// writes. They are looked at by name: to open and close them would drop the process's locks.
type sqliteFiles struct {
	name string // "": they cannot be looked at
	seen [2]fileState
}

// fileState is what a write to a file changes. The zero fileState is that of no file.
type fileState struct {
	size     int64
	modified time.Time
}

// changed reports whether the files are different from how they were at the last call.
func (f *sqliteFiles) changed() bool {
	var now [2]fileState
	for i, name := range []string{f.name, f.name + "-wal"} {
		info, err := os.Stat(name)
		switch {
		case err == nil:
			now[i] = fileState{info.Size(), info.ModTime()}
		case !errors.Is(err, os.ErrNotExist):
			return true
		}
	}
	changed := now != f.seen
	f.seen = now
	return changed
}

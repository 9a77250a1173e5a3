package dialect

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"runtime"
	"time"
)

// How often a listener looks for commits. A look every 5 ms takes 1 to 2% of a core, most of it for
// waking up. A look every 2 ms takes twice as much, and a COMMIT with its fsync takes about 2 ms,
// too. A look is at the files' sizes and times. When these have changed, and now and then, the
// listener also asks for data_version, which is a statement.
const (
	sqlitePoll = 5 * time.Millisecond
	// sqliteRest is the longest time between two such questions. An older kernel keeps times by its
	// tick: the second of two writes in one tick may leave no trace.
	sqliteRest = 250 * time.Millisecond
	// sqlitePending is how long the listener asks at each look after the files have changed. A
	// commit writes the files first, and counts after its fsync.
	sqlitePending = 500 * time.Millisecond
	// sqliteSettled is how long the listener goes on asking after it has seen a commit. Another
	// commit may have been pending.
	sqliteSettled = 10 * time.Millisecond
	// sqlitePollBlind is the time between two questions if the files cannot be looked at and the
	// mode is not WAL. Outside of WAL mode a listener that asks is a reader, and COMMIT is refused
	// while there is one.
	sqlitePollBlind = 20 * time.Millisecond
)

// sqliteListener polls for commits of other processes, by a counter that SQLite keeps for each
// connection (data_version). Members in the same process nudge.
type sqliteListener struct {
	conn    *sql.Conn
	restore func() error
	poll    time.Duration
	files   sqliteFiles
	version int64     // data_version, as last asked
	asked   time.Time // when version was asked for
	until   time.Time // until then it asks at each look
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
	case file == "" || runtime.GOOS == "windows": // Windows may show a write only when the file is closed
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
		// The counter is read before the rows are. A commit in between is looked at twice, and none
		// is overlooked.
		err = l.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&l.version)
		switch {
		case Classify(err) == Retry: // locked; the process that holds the lock may be changing the leader
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

// Close gives the connection back as it was: closing it could drop an in-memory database.
func (l *sqliteListener) Close() {
	_ = orDiscard(l.conn, l.restore())
	_ = l.conn.Close()
}

// sqliteFiles are a database's own file and its write-ahead log. Every commit writes one of them.
// They are looked at by name: opening and closing them would drop the process's locks.
type sqliteFiles struct {
	name string // "": they cannot be looked at
	seen [2]fileState
}

// fileState is what a write to a file changes. The zero fileState means that there is no file.
type fileState struct {
	size     int64
	modified time.Time
}

// changed reports whether the files differ from what the last call saw.
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

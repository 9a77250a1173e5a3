package doctor

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// detect asks which engine the database is. It fails on relatives of the supported engines and on
// clusters, if their locks differ.
func (e *examination) detect(ctx context.Context) finding {
	d, err := dialect.Detect(ctx, e.db)
	if err != nil {
		return failure("%v", err).because("Elections are refused here: this library does not know how to guard a transaction on it.",
			"Use a server that docs/databases.md lists.")
	}
	if e.identity, err = d.Identity(ctx, e.db); err != nil {
		return failure("%v", err).because("Elections need a database to put their table in.", "Name the database in the DSN.")
	}
	// The version is for the reader of the report only. Without it everything else goes on.
	_ = e.db.QueryRowContext(ctx, d.Examination.Version).Scan(&e.version)
	e.dialect = d
	return ok("%s %s", d.Name, e.version)
}

// serverChecks are the checks that need no table.
func (e *examination) serverChecks() []check {
	checks := []check{
		{"pool", "asked the pool for its limit", e.pool},
		{"session settings", "looked for what commits less than it seems", e.sessionSettings},
	}
	for _, condition := range e.dialect.Examination.Conditions {
		checks = append(checks, check{condition.Name, "asked the database", func(ctx context.Context) finding {
			return judge(ctx, e.db, condition)
		}})
	}
	// A database in memory has no file that another library could open.
	if _, isFile := dialect.DatabaseFile(e.identity); isFile && e.dialect.Examination.Opener.Name != "" {
		checks = append(checks, check{e.dialect.Examination.Opener.Name, "counted how often the file is open here", e.library})
	}
	return append(checks,
		check{"file system", "asked where the file is", e.fileSystem},
		check{"own session", "asked two connections for their sessions", e.ownSession},
		check{"clock", "compared it with this machine's", e.clock})
}

// pool looks at the first handle only, because the second one may exist for the examination alone.
// In a small pool renewals wait behind guarded transactions, and a leader whose renewals come too
// late loses its leadership.
func (e *examination) pool(context.Context) finding {
	// One connection renews, one listens, and one has the lock that listeners wait for.
	const enough = 3
	switch most := e.db.Stats().MaxOpenConnections; {
	case most == 0:
		return ok("no limit")
	case most < enough:
		return warning("at most %d", most).because(
			"A guarded transaction, renewals and wake-ups share these: renewals may come late, and members may have to poll.",
			fmt.Sprintf("Allow at least %d (SetMaxOpenConns), and one more for each guarded transaction at the same time.", enough))
	default:
		return ok("at most %d", most)
	}
}

// sessionSettings looks for settings under which a session commits less than its statements say,
// such as autocommit that is off. Every storage refuses such a session when it is opened, so with
// this DSN no member could start.
func (e *examination) sessionSettings(ctx context.Context) finding {
	seen, err := e.dialect.Look(ctx, e.db, e.Table)
	if err != nil {
		return failure("%v", err)
	}
	if seen.UnfitSession != "" {
		return failure("%s", seen.UnfitSession).because("No storage can be opened with this DSN.", "Change the DSN's parameter or the server's default.")
	}
	return ok("as they should be")
}

// judge asks whether one of the engine's own conditions holds. An error, no row, or NULL instead of
// an answer is no finding: an older server may not know the setting, and the user may not be
// allowed to see it. An operator has to look by hand then.
func judge(ctx context.Context, q sqldb.Execer, c dialect.Condition) finding {
	var seen sql.NullString
	var holds sql.NullBool
	err := q.QueryRowContext(ctx, c.Query).Scan(&seen, &holds)
	switch {
	case err != nil:
		return skipped("it could not be read: %v", err)
	case !holds.Valid:
		return skipped("%s; this user may not see more", seen.String)
	case holds.Bool:
		return ok("%s", seen.String)
	case c.Grave:
		return failure("%s", seen.String).because(c.Means, c.Do)
	}
	return warning("%s", seen.String).because(c.Means, c.Do)
}

// fileSystem finds a database file on a network file system, where locks may not reach the members
// on other machines. On servers it is skipped.
func (e *examination) fileSystem(context.Context) finding {
	path, isFile := dialect.DatabaseFile(e.identity)
	if !isFile {
		return skipped("it is no file")
	}
	kind, remote, err := fileSystemOf(path)
	if err != nil {
		return skipped("%v", err)
	}
	return fileSystemFinding(kind, remote)
}

func fileSystemFinding(kind string, remote bool) finding {
	if remote {
		return failure("%s", kind).because("Locks and shared memory do not reach the other machines: two can lead, and the file can be damaged.",
			"Put the file on a local disk, and only members on this machine; or use a server.")
	}
	return ok("%s", kind)
}

// ownSession finds poolers that lend sessions by the transaction. Behind one, members hear of no
// change of leader and poll, and a driver that prepares statements fails sooner or later.
func (e *examination) ownSession(ctx context.Context) finding {
	if e.dialect.Examination.Session == "" {
		return skipped("there are none")
	}
	if why := e.alone(); why != "" {
		return skipped("%s", why)
	}
	before, between, after, err := e.sessions(ctx)
	switch {
	case err != nil && dialect.LostSession(err):
		return failure("%v", err).because(
			"A pooler lends sessions by the transaction, and statements that the driver has prepared are not found again.",
			e.dialect.Examination.Pooled)
	case err != nil:
		return broken("ask which session it is", err)
	// Either sign is enough: the connection has changed its session, or another connection was
	// given the session while the connection was idle.
	case before != after || before == between:
		return warning("a connection had session %s, then %s; the other one %s", before, after, between).because(
			"A pooler lends sessions by the transaction: what is set for a session reaches others, or nobody, and notifications are lost, so that members poll.",
			e.dialect.Examination.Pooled)
	}
	return ok("each has its own")
}

// sessions asks one connection for its session twice. In between it asks another connection, which
// has a transaction open until the end: so one session cannot serve both.
func (e *examination) sessions(ctx context.Context) (before, between, after string, err error) {
	ask := e.dialect.Examination.Session
	one, err := e.db.Conn(ctx)
	if err != nil {
		return "", "", "", err
	}
	// Neither the close nor the rollback can change the answer: nothing was written.
	defer func() { _ = one.Close() }()
	if err := one.QueryRowContext(ctx, ask).Scan(&before); err != nil {
		return "", "", "", err
	}
	tx, err := e.Other.BeginTx(ctx, nil)
	if err != nil {
		return "", "", "", err
	}
	defer func() { _ = tx.Rollback() }()
	if err := tx.QueryRowContext(ctx, ask).Scan(&between); err != nil {
		return "", "", "", err
	}
	err = one.QueryRowContext(ctx, ask).Scan(&after)
	return before, between, after, err
}

// alone says why there are no two connections, or returns "" if there are.
func (e *examination) alone() string {
	if e.Other == e.db && e.db.Stats().MaxOpenConnections == 1 {
		return "it takes two connections, and the pool allows one (SetMaxOpenConns)"
	}
	return ""
}

// clock estimates the offset of the server's clock by Cristian's algorithm. The server took its
// time at some moment between request and reply. The estimate assumes the middle, so it is wrong by
// at most half the round trip. The quickest of several tries is the most exact one.
//
// No promise depends on the server's clock. The warning is for people who compare times in logs.
func (e *examination) clock(ctx context.Context) finding {
	query := e.dialect.Examination.Now
	if query == "" {
		return skipped("it is this machine's")
	}
	const tries = 15
	var offset, doubt time.Duration
	for i := range tries {
		var micros int64
		start := time.Now()
		if err := e.db.QueryRowContext(ctx, query).Scan(&micros); err != nil {
			return failure("%v", err)
		}
		if half := time.Since(start) / 2; i == 0 || half < doubt {
			offset, doubt = time.UnixMicro(micros).Sub(start.Add(half)), half
		}
	}
	offset, doubt = offset.Round(time.Microsecond), doubt.Round(time.Microsecond)
	// Only the part of the offset that is certain counts: a slow link alone gives no warning.
	if offset.Abs()-doubt > e.ClockTolerance {
		return warning("%v ahead of ours, ± %v", offset, doubt).because(
			"The election uses no clock but each machine's own monotonic one; times that the database and programs write cannot be compared.",
			"Synchronize the clocks (NTP) of the server and of this machine.")
	}
	return ok("%v ahead of ours, ± %v", offset, doubt)
}

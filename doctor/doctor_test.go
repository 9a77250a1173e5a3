package doctor_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/doctor"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/sqldb"
)

// examine examines db through two handles, and sees to it that nothing is left.
func examine(t *testing.T, db *dbtest.Database) doctor.Report {
	t.Helper()
	return examineBy(t, db, db.Open(t), doctor.Options{Other: db.Open(t)})
}

func examineBy(t *testing.T, db *dbtest.Database, handle *sql.DB, options doctor.Options) doctor.Report {
	t.Helper()
	report, err := doctor.Examine(t.Context(), handle, options)
	require.NoError(t, err)
	requireNothingLeft(t, db)
	return report
}

// ownServers begins a test that starts servers, and waits for their disk.
func ownServers(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers of its own")
	}
	t.Parallel()
}

// requireNothingLeft looks for tables of an examination, on a handle of its own.
func requireNothingLeft(t *testing.T, db *dbtest.Database) {
	t.Helper()
	query := map[string]string{
		"sqlite":   `SELECT name, '' FROM sqlite_master WHERE name LIKE '%election_doctor_%'`,
		"mysql":    `SELECT table_name, '' FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE '%election_doctor_%'`,
		"postgres": `SELECT relname::text, '' FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname LIKE '%election_doctor_%'`,
	}[db.Engine]
	left, err := sqldb.Strings(t.Context(), db.Open(t), 2, query)
	require.NoError(t, err)
	require.Empty(t, left)
}

// requireVerdict checks one check, which must say what it saw, and if it found
// something, what that means and what to do.
func requireVerdict(t *testing.T, r doctor.Report, name string, want doctor.Verdict) doctor.Check {
	t.Helper()
	c, found := r.Find(name)
	require.True(t, found, "no check %q in\n%v", name, r)
	require.Equal(t, want.String(), c.Verdict.String(), "%s: %s\n%v", name, c.Seen, r)
	assert.NotEmpty(t, c.Tried)
	assert.NotEmpty(t, c.Seen)
	if want >= doctor.Warning {
		assert.NotEmpty(t, c.Means, name)
		assert.NotEmpty(t, c.Do, name)
	}
	return c
}

// found are the names of the checks that came to v.
func found(r doctor.Report, v doctor.Verdict) (names []string) {
	for _, c := range r.Checks {
		if c.Verdict == v {
			names = append(names, c.Name)
		}
	}
	return names
}

// trials are the checks that hold elections.
var trials = []string{
	"compare-and-swap", "affected rows", "guarded transaction", "lock of the guard", "bounded waits",
	"past term", "read your write", "wake-ups",
}

// requireTrials checks that elections can be held. Behind a pooler that lends
// sessions members are not woken.
func requireTrials(t *testing.T, r doctor.Report) {
	t.Helper()
	session, _ := r.Find("own session")
	for _, name := range trials {
		want := doctor.OK
		if name == "wake-ups" && session.Verdict == doctor.Warning {
			want = doctor.Warning
		}
		requireVerdict(t, r, name, want)
	}
}

// serverless are checks that SQLite has no use for.
var serverless = []string{"clock", "hung transactions"}

// Servers as they come, on which everything is as it should be.
func TestHealthyServers(t *testing.T) {
	ownServers(t)
	for name, own := range map[string]func(testing.TB, ...string) *dbtest.Database{"mysql": dbtest.OwnMySQL, "postgres": dbtest.OwnPostgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report := examine(t, own(t))
			require.Empty(t, found(report, doctor.Failure), "%v", report)
			require.Empty(t, found(report, doctor.Warning), "%v", report)
			require.Equal(t, []string{"file system"}, found(report, doctor.Skipped))
			require.NoError(t, report.Err(doctor.OK))
		})
	}
}

// Whatever else may be wrong with a database that the tests use (their servers do
// not wait for the disk), elections work on it, and one that is held there meanwhile
// is left alone.
func TestElectionsWorkOnEveryDatabase(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle := db.Open(t)
		storage, err := election.NewSQLStorage(handle, "")
		require.NoError(t, err)
		require.NoError(t, storage.Update(t.Context(), &election.Record{LeaderID: "somebody", Term: 5}, true))

		report := examine(t, db)
		requireTrials(t, report)
		requireVerdict(t, report, "table", doctor.OK)
		for _, name := range serverless {
			want := doctor.OK
			if db.Engine == "sqlite" {
				want = doctor.Skipped
			}
			requireVerdict(t, report, name, want)
		}
		durability := []string{"flush to disk", "flush at commit"}
		for _, name := range found(report, doctor.Failure) {
			assert.Contains(t, durability, name, "%v", report)
		}
		var names []string
		for _, c := range report.Checks {
			assert.NotContains(t, names, c.Name)
			names = append(names, c.Name)
		}
		require.NotEmpty(t, report.Version)
		require.Contains(t, report.Scratch, "election_doctor_")

		record, err := storage.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, int64(1), record.Version)
		require.Equal(t, "somebody", record.LeaderID)
		require.Equal(t, 2, dbtest.Count(t, handle, "election"))
	})
}

// A pool of one connection proves nothing about two, unless there is another handle.
func TestPoolOfOne(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	report := examineBy(t, db, db.OpenSingle(t), doctor.Options{})
	requireVerdict(t, report, "pool", doctor.Warning)
	for _, name := range trials {
		requireVerdict(t, report, name, doctor.Skipped)
	}
	report = examineBy(t, db, db.OpenSingle(t), doctor.Options{Other: db.Open(t)})
	requireVerdict(t, report, "pool", doctor.Warning)
	for _, name := range trials {
		requireVerdict(t, report, name, doctor.OK)
	}
}

// An examination whose ctx ends leaves nothing behind either, and says how far it came.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	interrupted := errors.New("interrupted")
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		statements.Refuse(func(query string) error {
			if strings.HasPrefix(query, "UPDATE") && !strings.Contains(query, "1 = 0") { // in the midst of a trial
				cancel(interrupted)
			}
			return nil
		})
		report, err := doctor.Examine(ctx, handle, doctor.Options{})
		require.ErrorIs(t, err, interrupted)
		require.NotEmpty(t, report.Checks)
		requireVerdict(t, report, "right to CREATE", doctor.OK)
		requireVerdict(t, report, "nothing left behind", doctor.OK)
		_, finished := report.Find("wake-ups")
		require.False(t, finished)
		requireNothingLeft(t, db)
	})
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	_, err := doctor.Examine(t.Context(), nil, doctor.Options{})
	require.ErrorContains(t, err, "must not be nil")

	db, err := sql.Open("sqlite", sqldb.FileDSN(filepath.Join(t.TempDir(), "no", "such.db")))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	report, err := doctor.Examine(t.Context(), db, doctor.Options{})
	require.ErrorContains(t, err, "connect")
	require.Empty(t, report.Checks)

	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		behind, proxy := db.Behind(t)
		proxy.Swallow()
		start := time.Now()
		_, err := doctor.Examine(t.Context(), behind.Open(t), doctor.Options{Timeout: time.Second})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Less(t, time.Since(start), 20*time.Second)
	})
}

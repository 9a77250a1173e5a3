package doctor_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/doctor"
	"github.com/sqlelect/election/internal/dbtest"
)

// await waits until a condition holds.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		require.True(t, time.Now().Before(deadline), "it never came")
		<-time.NewTimer(5 * time.Millisecond).C
	}
}

// examineTampered examines db as both members see it through the same tampering.
func examineTampered(t *testing.T, db *dbtest.Database, how tampering) doctor.Report {
	t.Helper()
	db = interpolated(t, db)
	return examineBy(t, db, openTampered(t, db, how), doctor.Options{Other: openTampered(t, db, how)})
}

// eachPure runs on every database whose driver can be wrapped.
func eachPure(t *testing.T, run func(t *testing.T, db *dbtest.Database)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		if db.Driver == "sqlite3" {
			t.Skip("wrapped drivers are tested with the other one")
		}
		run(t, db)
	})
}

// eachServerOnce leaves out the second way to set up one server.
func eachServerOnce(t *testing.T, run func(t *testing.T, db *dbtest.Database)) {
	t.Helper()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if strings.HasSuffix(db.Name, "-found-rows") {
			t.Skip("what is looked for is the same on both")
		}
		run(t, db)
	})
}

// without takes a pattern out of statements.
func without(pattern string) func(string) string {
	p := regexp.MustCompile(pattern)
	return func(query string) string { return p.ReplaceAllString(query, "") }
}

func TestMiscountedRows(t *testing.T) {
	t.Parallel()
	for name, count := range map[string]int64{"one": 1, "none": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachPure(t, func(t *testing.T, db *dbtest.Database) {
				db = interpolated(t, db)
				how := tampering{affected: func(int64) int64 { return count }}
				report := examineBy(t, db, openTampered(t, db, how),
					doctor.Options{Other: openTampered(t, db, how), Timeout: time.Second}) // much is in vain
				requireVerdict(t, report, "compare-and-swap", doctor.Failure)
				requireVerdict(t, report, "affected rows", doctor.Failure)
			})
		})
	}
}

// The guard's statement comes through, and locks nothing.
func TestLockThatDoesNotLock(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		how := tampering{rewrite: map[string]func(string) string{
			"mysql":    without(" LOCK IN SHARE MODE"),
			"postgres": without(` FOR SHARE|, pg_advisory_xact_lock_shared\(.*?\)(?:::regclass::oid::bigint\))`),
		}[db.Engine]}
		report := examineTampered(t, db, how)
		requireVerdict(t, report, "lock of the guard", doctor.Failure)
		requireVerdict(t, report, "compare-and-swap", doctor.OK)
		require.ErrorContains(t, report.Err(doctor.Warning), "lock of the guard")
	})
}

// The guard looks at the leader, and not at the term.
func TestGuardWithoutTerm(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		report := examineTampered(t, db, tampering{rewrite: func(query string) string {
			if !strings.Contains(query, "SHARE") { // the guard's statement alone
				return query
			}
			return regexp.MustCompile(` AND version = \d+`).ReplaceAllString(query, "")
		}})
		requireVerdict(t, report, "past term", doctor.Failure)
		requireVerdict(t, report, "lock of the guard", doctor.OK)
	})
}

// Each statement is committed by itself, as where a pooler lends connections by
// the statement.
func TestNoTransactions(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		branch := regexp.MustCompile(`XA START '\w+'; `)
		ending := regexp.MustCompile(`XA (?:END|COMMIT|ROLLBACK) '\w+'(?: ONE PHASE)?`)
		report := examineTampered(t, db, tampering{noTx: true, rewrite: func(query string) string {
			query = strings.Replace(query, "COMMIT; BEGIN READ WRITE; ", "SET SESSION default_transaction_read_only = off; ", 1)
			return ending.ReplaceAllString(branch.ReplaceAllString(query, ""), "DO 0")
		}})
		if db.Engine == "postgres" { // a setting that is local to the transaction is gone at its end
			requireVerdict(t, report, "guarded transaction", doctor.Failure)
			return
		}
		requireVerdict(t, report, "guarded transaction", doctor.Failure)
		requireVerdict(t, report, "lock of the guard", doctor.Failure)
	})
}

// A change of leader that waits is told neither by the server nor by its ctx that
// its time is over.
func TestUnboundedWaits(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		unbounded := without(`set_config\('lock_timeout', '\d+', true\),|SET STATEMENT innodb_lock_wait_timeout=1[^;]* FOR `)
		report := examineTampered(t, db, tampering{deaf: true, rewrite: func(query string) string {
			if strings.HasPrefix(query, "SET @election_innodb_lock_wait_timeout") {
				return "SET @election_innodb_lock_wait_timeout = 50"
			}
			if strings.HasPrefix(query, "SELECT set_config('lock_timeout'") && !strings.Contains(query, "advisory") {
				return query // before DDL
			}
			return unbounded(query)
		}})
		c := requireVerdict(t, report, "bounded waits", doctor.Warning)
		require.Contains(t, c.Seen, "after its time")
	})
}

// The bounds that the library sets for a guarded transaction do not come through.
func TestHungTransactionsHaveNoBound(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		report := examineTampered(t, db, tampering{rewrite: func(query string) string {
			query = regexp.MustCompile(`SESSION idle_\w*transaction_timeout = IF\(`).ReplaceAllString(query, "@ignored = IF(")
			return strings.ReplaceAll(query, "'idle_in_transaction_session_timeout', 'statement_timeout'", "'statement_timeout'")
		}})
		requireVerdict(t, report, "hung transactions", doctor.Warning)
		requireVerdict(t, report, "guarded transaction", doctor.OK)
	})
}

// A driver that hangs, whatever its ctx says, is given up, and the rest as well.
func TestDriverThatHangs(t *testing.T) {
	t.Parallel()
	eachPure(t, func(t *testing.T, db *dbtest.Database) {
		hang := make(chan struct{})
		t.Cleanup(func() { close(hang) })
		handle := openTampered(t, interpolated(t, db), tampering{before: func(_ context.Context, query string) {
			if strings.HasPrefix(query, "DELETE") {
				<-hang
			}
		}})
		start := time.Now()
		report, err := doctor.Examine(t.Context(), handle, doctor.Options{Timeout: time.Second})
		require.NoError(t, err)
		require.Less(t, time.Since(start), 20*time.Second)
		requireVerdict(t, report, "right to DELETE", doctor.Failure)
		requireVerdict(t, report, "nothing left behind", doctor.OK)
		require.Equal(t, "nothing left behind", report.Checks[len(report.Checks)-1].Name)
		_, tried := report.Find("compare-and-swap")
		require.False(t, tried)
		requireNothingLeft(t, db)
	})
}

// Clocks that are apart, more or less than is tolerated.
func TestSkewedClock(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		for _, c := range []struct {
			tolerance time.Duration
			want      doctor.Verdict
		}{{0, doctor.Warning}, {3 * time.Hour, doctor.OK}} {
			handle := openTampered(t, interpolated(t, db), tampering{rewrite: func(query string) string {
				query = strings.Replace(query, "clock_timestamp()", "clock_timestamp() + interval '2 hours'", 1)
				return strings.Replace(query, "UTC_TIMESTAMP(6)", "UTC_TIMESTAMP(6) + INTERVAL 2 HOUR", 1)
			}})
			report := examineBy(t, db, handle, doctor.Options{ClockTolerance: c.tolerance})
			require.Regexp(t, `^(2h0m|1h59m)`, requireVerdict(t, report, "clock", c.want).Seen)
		}
	})
}

// Nobody is told of changes, because listening is refused.
func TestNobodyIsWoken(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		statements.Refuse(func(query string) error {
			if strings.HasPrefix(query, "LISTEN") || strings.Contains(query, "GET_LOCK") {
				return errors.New("refused")
			}
			return nil
		})
		report := examineBy(t, db, handle, doctor.Options{})
		requireVerdict(t, report, "wake-ups", doctor.Warning)
	})
}

// A proxy that does not let through what a guarded transaction needs there.
func TestNoBranches(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "mysql" {
			t.Skip("only there it is a branch")
		}
		handle, statements := db.OpenCounted(t)
		statements.Refuse(func(query string) error {
			if strings.Contains(query, "XA START") {
				return errors.New("XA is refused")
			}
			return nil
		})
		report := examineBy(t, db, handle, doctor.Options{})
		require.Contains(t, requireVerdict(t, report, "guarded transaction", doctor.Failure).Seen, "XA is refused")
		requireVerdict(t, report, "compare-and-swap", doctor.OK)
	})
}

// What cannot be removed is named, with the statement that would.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		drops := 0
		statements.Refuse(func(query string) error {
			if strings.Contains(query, "DROP TABLE") {
				if drops++; drops > 1 {
					return errors.New("refused")
				}
			}
			return nil
		})
		report, err := doctor.Examine(t.Context(), handle, doctor.Options{})
		require.NoError(t, err)
		c := requireVerdict(t, report, "nothing left behind", doctor.Failure)
		require.Contains(t, c.Do, "DROP TABLE ")
		dbtest.Exec(t, db.Open(t), c.Do)
		requireNothingLeft(t, db)
	})
}

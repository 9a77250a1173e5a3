package election_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// The guarded transaction on servers: what it costs, what it leaves behind, and
// that it does not keep a change of leader out.

// guardCosts is how many round trips more than BEGIN and COMMIT are spent.
var guardCosts = map[string]int{"mysql": 3, "postgres": 3}

func TestGuardCostsOnServers(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		if engine(t, handle) == "MySQL" {
			t.Skip("no compound statements: more round trips")
		}
		s := openSQL(t, handle)
		term := mustLead(t, s, "a")
		for _, ctx := range []context.Context{t.Context(), inTerm(t.Context(), "a", term)} {
			statements.Take()
			require.NoError(t, s.TxnWithLeaderLock(ctx, "a", func(*sql.Tx) error { return nil }))
			sent := statements.Take()
			assert.Len(t, sent, 2+guardCosts[db.Engine], "%q", sent)
		}
		statements.Take()
		r, err := s.Get(t.Context())
		require.NoError(t, err)
		require.Len(t, statements.Take(), 1, "Get reads both rows in one statement")
		require.NoError(t, s.Update(t.Context(), r, false))
		require.Len(t, statements.Take(), 1, "a renewal is one statement")
	})
}

// sessionState is what our transactions must leave as they found it, where it can
// be asked for.
func sessionState(t *testing.T, db *sql.DB) (state string) {
	t.Helper()
	query := map[string]string{
		"SQLite": "SELECT ''",
		"MariaDB": `SELECT CONCAT_WS(' ', @@autocommit, @@tx_isolation, @@tx_read_only, @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@idle_transaction_timeout, @@idle_write_transaction_timeout,
			@@idle_readonly_transaction_timeout, @@max_statement_time, @@net_write_timeout, @@sql_mode)`,
		"MySQL": "SELECT CONCAT_WS(' ', @@autocommit, @@transaction_isolation, @@transaction_read_only, @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@sql_mode)",
		"PostgreSQL": `SELECT concat_ws(' ', current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only'),
			current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'),
			current_setting('transaction_read_only'), current_setting('search_path'),
			(SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'))`,
	}[engine(t, db)]
	require.NoError(t, db.QueryRow(query).Scan(&state))
	return state
}

func TestTrap28SessionSettings(t *testing.T) {
	t.Parallel()
	for _, kind := range storageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
				w := newGuardWorld(t, db, kind)
				before := sessionState(t, w.db)
				canceled, cancel := context.WithCancel(t.Context())
				for name, run := range map[string]func() error{
					"commit":     func() error { return guarded(t.Context(), w.a, "a", func(*sql.Tx) error { return nil }) },
					"error":      func() error { return guarded(t.Context(), w.a, "a", func(*sql.Tx) error { return context.Canceled }) },
					"not leader": func() error { return guarded(t.Context(), w.a, "b", func(*sql.Tx) error { return nil }) },
					"canceled": func() error {
						return guarded(canceled, w.a, "a", func(*sql.Tx) error { cancel(); return nil })
					},
					"raw commit": func() error {
						return guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error { _, err := tx.Exec("COMMIT"); return err })
					},
					"raw rollback": func() error {
						return guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error { _, err := tx.Exec("ROLLBACK"); return err })
					},
					"change":        func() error { _, err := lead(t.Context(), w.a, "a"); return err },
					"lost change":   func() error { return w.a.Update(t.Context(), &election.Record{LeaderID: "x", Version: 1 << 40}, true) },
					"renewal":       func() error { r, _ := w.a.Get(t.Context()); return w.a.Update(t.Context(), r, false) },
					"short of time": func() error { return shortOfTime(t, w) },
				} {
					_ = run()
					require.Equal(t, before, sessionState(t, w.db), name)
				}
			})
		})
	}
}

// shortOfTime is a change of leader that ends while it waits.
func shortOfTime(t *testing.T, w guardWorld) error {
	t.Helper()
	return guarded(t.Context(), w.b, "a", func(*sql.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := lead(ctx, w.a, "a")
		return err
	})
}

// saturate keeps workers running overlapping guarded transactions of 20 ms until
// the leader changes, and returns how many were committed.
func saturate(ctx context.Context, t testing.TB, s election.Storage, workers int) (wait func() int) {
	t.Helper()
	var running sync.WaitGroup
	var begun sync.WaitGroup
	counts := make([]int, workers)
	begun.Add(workers)
	for i := range workers {
		running.Go(func() {
			first := sync.OnceFunc(begun.Done)
			defer first()
			for ctx.Err() == nil {
				err := guarded(ctx, s, "a", func(*sql.Tx) error {
					first()
					busy, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
					defer cancel()
					<-busy.Done()
					return nil
				})
				if err != nil {
					return
				}
				counts[i]++
			}
		})
	}
	begun.Wait()
	return func() (n int) {
		running.Wait()
		for _, c := range counts {
			n += c
		}
		return n
	}
}

// Overlapping guarded transactions do not keep a change of leader out.
func TestTrap03ChangeIsNotStarved(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		s, other := openSQL(t, db.Open(t)), openSQL(t, db.Open(t))
		mustLead(t, s, "a")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		wait := saturate(ctx, t, s, 8)
		start := time.Now()
		mustLead(t, other, "b")
		assert.Less(t, time.Since(start), 5*time.Second) // see BenchmarkChangeUnderLoad for the figure
		wait()
		require.NoError(t, ctx.Err())
	})
}

// A guarded transaction that comes while a change of leader waits for an earlier
// one runs after the change, so never.
func TestTrap03LaterGuardsQueueBehindAChange(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		changing, later := db.OpenSingle(t), db.OpenSingle(t)
		b, c := kind.must(t, changing), kind.must(t, later)
		changeWaits, laterWaits := waiting(t, db, w.otherDB, changing), waiting(t, db, w.otherDB, later)
		changed, second := make(chan error, 1), make(chan error, 1)
		var ran atomic.Bool
		require.NoError(t, guarded(t.Context(), w.a, "a", func(*sql.Tx) error {
			go func() { _, err := lead(t.Context(), b, "b"); changed <- err }()
			waitFor(t, 10*time.Second, "the change to wait", changeWaits)
			go func() {
				second <- guarded(t.Context(), c, "a", func(*sql.Tx) error { ran.Store(true); return nil })
			}()
			waitFor(t, 10*time.Second, "the later one to wait", func() bool { return ran.Load() || laterWaits() })
			return nil
		}))
		require.NoError(t, <-changed)
		require.ErrorIs(t, <-second, election.ErrNotLeader)
		require.False(t, ran.Load(), "it overtook the change")
	})
}

// waiting tells whether the one connection of handle waits for a lock.
func waiting(t *testing.T, db *dbtest.Database, admin, handle *sql.DB) func() bool {
	t.Helper()
	var id int
	if db.Direct != nil { // no connection of the server is its own
		return func() (waits bool) {
			row := admin.QueryRow("SELECT COUNT(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
			require.NoError(t, row.Scan(&waits))
			return waits
		}
	}
	if db.Engine == "postgres" {
		require.NoError(t, handle.QueryRow("SELECT pg_backend_pid()").Scan(&id))
		return func() (waits bool) {
			row := admin.QueryRow(fmt.Sprintf("SELECT COUNT(*) > 0 FROM pg_locks WHERE NOT granted AND pid = %d", id))
			require.NoError(t, row.Scan(&waits))
			return waits
		}
	}
	require.NoError(t, handle.QueryRow("SELECT CONNECTION_ID()").Scan(&id))
	return func() bool { // information_schema.innodb_trx would show the past to those who ask often
		var kind, name, status string
		require.NoError(t, admin.QueryRow("SHOW ENGINE INNODB STATUS").Scan(&kind, &name, &status))
		return slices.ContainsFunc(strings.Split(status, "---TRANSACTION"), func(trx string) bool {
			return strings.Contains(trx, fmt.Sprintf(" thread id %d,", id)) && strings.Contains(trx, "LOCK WAIT")
		})
	}
}

// BenchmarkChangeUnderLoad is how long a change of leader takes while 8 workers
// run overlapping guarded transactions of 20 ms. (The target is 250 ms.)
func BenchmarkChangeUnderLoad(b *testing.B) {
	eachServer(b, func(b *testing.B, db *sql.DB) {
		s := openSQL(b, db)
		r := &election.Record{}
		var slowest time.Duration
		for b.Loop() {
			b.StopTimer()
			r.LeaderID, r.Term = "a", r.Term+1
			require.NoError(b, s.Update(b.Context(), r, true))
			r.Version++
			wait := saturate(b.Context(), b, s, 8)
			r.LeaderID, r.Term = "b", r.Term+1
			b.StartTimer()
			start := time.Now()
			require.NoError(b, s.Update(b.Context(), r, true))
			slowest = max(slowest, time.Since(start))
			b.StopTimer()
			r.Version++
			wait()
			b.StartTimer()
		}
		b.ReportMetric(float64(slowest.Milliseconds()), "ms-max")
	})
}

// eachServer runs a benchmark on the servers that are there.
func eachServer(b *testing.B, run func(b *testing.B, db *sql.DB)) {
	for _, db := range dbtest.Servers(b) {
		b.Run(db.Name, func(b *testing.B) { run(b, db.Open(b)) })
	}
}

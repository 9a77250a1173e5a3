package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/storagetest"
)

// What is particular to PgBouncer in transaction mode, where each transaction may run on
// another of the server's few connections, and others on the same one afterwards. The
// tests that run on every database run behind it as well.

// eachPoolerMode runs a test for each way in which pgx can send statements through a
// pooler that knows of no prepared ones.
func eachPoolerMode(t *testing.T, run func(t *testing.T, pooled *dbtest.Database)) {
	t.Helper()
	for _, mode := range []string{"exec", "simple_protocol", "cache_describe"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			run(t, dbtest.PgBouncer(t).With("default_query_exec_mode", mode))
		})
	}
}

func TestStorageContractBehindAPooler(t *testing.T) {
	t.Parallel()
	kinds := storageKinds()
	eachPoolerMode(t, func(t *testing.T, pooled *dbtest.Database) {
		handles := [2]*sql.DB{pooled.Open(t), pooled.Open(t)}
		var elections atomic.Int64
		storagetest.Run(t, func(t *testing.T) (a, b election.Storage) {
			name := fmt.Sprint("election ", elections.Add(1))
			return kinds[0].named(t, handles[0], name), kinds[1].named(t, handles[1], name)
		})
	})
}

// serverSessions calls look with the server's connections that the pooler has, all of
// them, each in a transaction.
func serverSessions(t *testing.T, handle *sql.DB, look func(tx *sql.Tx)) {
	t.Helper()
	seen := map[int]bool{}
	for range dbtest.PoolSize {
		tx, err := handle.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Commit()) }()
		var process int
		require.NoError(t, tx.QueryRow("SELECT pg_backend_pid()").Scan(&process))
		seen[process] = true
		look(tx)
	}
	require.Len(t, seen, dbtest.PoolSize)
}

// However a guarded transaction ends, none of the server's connections is handed to the
// next client with a setting or a lock of ours, and what the function sends after it has
// ended the transaction lands through none of them.
func TestTrap28SessionsBehindAPooler(t *testing.T) {
	t.Parallel()
	eachPoolerMode(t, func(t *testing.T, pooled *dbtest.Database) {
		w := newGuardWorld(t, pooled, storageKinds()[0])
		raw := func(statement string) func(*sql.Tx) error {
			return func(tx *sql.Tx) error { _, err := tx.Exec(statement); return err }
		}
		canceled, cancel := context.WithCancel(t.Context())
		for name, end := range map[string]struct {
			ctx context.Context
			fn  func(tx *sql.Tx) error
		}{
			"return":       {fn: func(*sql.Tx) error { return nil }},
			"error":        {fn: func(*sql.Tx) error { return errors.New("boom") }},
			"raw commit":   {fn: raw("COMMIT")},
			"raw rollback": {fn: raw("ROLLBACK")},
			"chain":        {fn: raw("ROLLBACK AND CHAIN")},
			"nonsense":     {fn: raw("nonsense")},
			"several":      {fn: raw("COMMIT; INSERT INTO log (entry) VALUES ('late')")},
			"commit":       {fn: (*sql.Tx).Commit},
			"canceled":     {ctx: canceled, fn: func(*sql.Tx) error { cancel(); return nil }},
			"lead meanwhile": {fn: func(tx *sql.Tx) error {
				_, err := tx.Exec("COMMIT")
				mustLead(t, w.b, "a")
				return err
			}},
			"kill": {fn: func(tx *sql.Tx) error {
				_, err := tx.Exec("SELECT pg_terminate_backend(pg_backend_pid())")
				return err
			}},
		} {
			ctx := end.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			_ = guarded(ctx, w.a, "a", func(tx *sql.Tx) error {
				err := end.fn(tx)
				if name != "return" {
					_ = write(tx, "late")
				}
				return err
			})
			serverSessions(t, w.otherDB, func(tx *sql.Tx) {
				_, err := tx.Exec("INSERT INTO log (entry) VALUES (gen_random_uuid()::text)")
				require.NoError(t, err, name)
				var left int
				require.NoError(t, tx.QueryRow(`SELECT (SELECT count(*) FROM pg_settings WHERE source = 'session' AND setting <> reset_val AND
						name IN ('default_transaction_read_only', 'lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'tcp_user_timeout'))
					+ (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')
					+ (SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'stmt%')`).Scan(&left))
				assert.Zero(t, left, name)
			})
			assert.NotContains(t, w.entries(t), "late", name)
		}
		requireUsable(t, w)
	})
}

// Whatever way a text of several statements, or one that was prepared, takes: a statement
// after the end of the transaction does not land.
func TestTrap24WaysPastAPooler(t *testing.T) {
	t.Parallel()
	const several = "ROLLBACK; INSERT INTO log (entry) VALUES ('late')"
	eachPoolerMode(t, func(t *testing.T, pooled *dbtest.Database) {
		w := newGuardWorld(t, pooled, storageKinds()[0])
		for name, way := range map[string]func(tx *sql.Tx, prepared *sql.Stmt) error{
			"text": func(tx *sql.Tx, _ *sql.Stmt) error { _, err := tx.Exec(several); return err },
			"arguments": func(tx *sql.Tx, _ *sql.Stmt) error {
				_, err := tx.Exec("ROLLBACK; INSERT INTO log (entry) VALUES ($1)", "late")
				return err
			},
			"mode": func(tx *sql.Tx, _ *sql.Stmt) error {
				_, err := tx.Exec("ROLLBACK; INSERT INTO log (entry) VALUES ($1)", pgx.QueryExecModeSimpleProtocol, "late")
				return err
			},
			"query": func(tx *sql.Tx, _ *sql.Stmt) error {
				var n int
				return tx.QueryRow(several + "; SELECT 1").Scan(&n)
			},
			"query in a mode": func(tx *sql.Tx, _ *sql.Stmt) error {
				var n int
				return tx.QueryRow(several+"; SELECT 1", pgx.QueryExecModeSimpleProtocol).Scan(&n)
			},
			"prepared": func(tx *sql.Tx, prepared *sql.Stmt) error {
				_, _ = tx.Exec("ROLLBACK")
				_, err := prepared.Exec("late")
				return err
			},
			"prepared late": func(tx *sql.Tx, _ *sql.Stmt) error {
				_, _ = tx.Exec("ROLLBACK")
				late, err := tx.Prepare("INSERT INTO log (entry) VALUES ($1)")
				if err == nil {
					_, err = late.Exec("late")
				}
				return err
			},
		} {
			err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
				require.NoError(t, write(tx, "undone"))
				prepared, err := tx.Prepare("INSERT INTO log (entry) VALUES ($1)")
				require.NoError(t, err, name)
				_, err = prepared.Exec("undone too")
				require.NoError(t, err, name)
				require.Error(t, way(tx, prepared), name)
				return nil
			})
			require.ErrorIs(t, err, election.ErrTxnEnded, name)
			require.Empty(t, w.entries(t), name)
		}

		// Semicolons that separate nothing are no matter.
		require.NoError(t, guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
			result, err := tx.Exec("INSERT INTO log (entry) VALUES ('a;b'), ('c;d');")
			require.NoError(t, err)
			n, err := result.RowsAffected()
			require.Equal(t, int64(2), n)
			require.NoError(t, err)
			_, err = tx.Exec("INSERT INTO log (entry) VALUES ($1 || ';')", "e")
			require.NoError(t, err)
			var n2 int
			require.NoError(t, tx.QueryRow("SELECT COUNT(*) FROM log WHERE entry LIKE '%;%'").Scan(&n2))
			require.Equal(t, 3, n2)
			return nil
		}))
		require.Equal(t, []string{"a;b", "c;d", "e;"}, w.entries(t))
	})
}

// An election behind a pooler: Status says why nobody is woken, a resignation is found
// by polling, and the guard follows the leader.
func TestElectionBehindAPooler(t *testing.T) {
	t.Parallel()
	eachPoolerMode(t, func(t *testing.T, pooled *dbtest.Database) {
		p := newParty(t)
		p.ctx, p.watches = t.Context(), true
		storages := map[string]election.Storage{}
		for i, id := range []string{"a", "b"} {
			storages[id] = storageKinds()[i].must(t, pooled.Open(t))
		}
		a := p.join("a", storages["a"], quickLease)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		b := p.join("b", storages["b"], quickLease)
		for _, m := range []*partyMember{a, b} {
			waitFor(t, time.Minute, "the reason is known", func() bool { return m.Status().WatchErr != nil })
			require.ErrorContains(t, m.Status().WatchErr, "pooler")
			require.False(t, m.Status().Watching)
		}
		waitFor(t, time.Minute, "b knows the leader", func() bool { _, ok := b.GetLeader(); return ok })
		require.NoError(t, a.ResignLeader(t.Context(), time.Hour))
		waitFor(t, time.Minute, "b leads", b.IsLeader)
		nothing := func(*sql.Tx) error { return nil }
		require.NoError(t, guarded(t.Context(), storages["b"], "b", nothing))
		require.ErrorIs(t, guarded(t.Context(), storages["a"], "a", nothing), election.ErrNotLeader)
		p.stopAll()
		p.log.requireSound(t)
	})
}

// Sessions that were left listening, as where it was not noticed in time what the pooler
// does, do no harm to those who are lent them.
func TestSessionsLeftListeningBehindAPooler(t *testing.T) {
	t.Parallel()
	pooled := dbtest.PgBouncer(t)
	w := newGuardWorld(t, pooled, storageKinds()[0])
	serverSessions(t, w.otherDB, func(tx *sql.Tx) {
		_, err := tx.Exec("LISTEN sqlelect")
		require.NoError(t, err)
	})
	far := openSQL(t, pooled.Direct.Open(t))
	for i := range 20 {
		mustLead(t, far, "a") // all of them are told of it
		require.NoError(t, guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error { return write(tx, fmt.Sprint(i)) }))
		mustLead(t, w.b, "b")
	}
	require.Len(t, w.entries(t), 20)
	requireUsable(t, w)
}

package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// Guarded transactions whose client falls silent, or leaves goroutines behind.

// stall is a state in which a client falls silent inside its guarded function.
type stall struct {
	name string
	// run leads there, and calls ready.
	run func(tx *sql.Tx, ready func()) error
	// locked: there the connection waits for a lock.
	locked bool
}

func stalls(engine string) []stall {
	numbers := "generate_series(1, 300000)"
	if engine == "mysql" {
		numbers = "seq_1_to_300000"
	}
	return []stall{
		{name: "idle", run: func(_ *sql.Tx, ready func()) error { ready(); return nil }},
		{name: "idle after a write", run: func(tx *sql.Tx, ready func()) error { defer ready(); return write(tx, "undone") }},
		{name: "in a result", run: func(tx *sql.Tx, ready func()) error {
			defer ready()
			rows, err := tx.Query("SELECT repeat('x', 1000) FROM " + numbers)
			if err == nil && !rows.Next() {
				err = errors.Join(errors.New("no rows"), rows.Err(), rows.Close())
			}
			return err // it reads no further
		}},
		{name: "waiting for a lock", locked: true, run: func(tx *sql.Tx, ready func()) error {
			ready()
			_, err := tx.Exec("UPDATE log SET entry = 'undone' WHERE entry = 'theirs'")
			return err
		}},
	}
}

// Wherever a client falls silent, another member takes over about a guard timeout
// later, whatever longer timeouts the session has.
func TestTrap04SilentClientsOnAServer(t *testing.T) {
	t.Parallel()
	eachServerStorageAndPooler(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if engine(t, db.Open(t)) == "MySQL" {
			t.Skip("no such bounds")
		}
		for _, s := range stalls(db.Engine) {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				fresh := db.Fresh(t)
				behind, proxy := fresh.Behind(t)
				patient := withSettings(t, behind,
					map[string]string{"idle_write_transaction_timeout": "600", "idle_readonly_transaction_timeout": "600", "net_write_timeout": "600"},
					map[string]string{"statement_timeout": "600000", "idle_in_transaction_session_timeout": "600000"})
				w := guardWorld{db: patient.OpenSingle(t), otherDB: fresh.Open(t)}
				w.a, w.b = kind.must(t, w.db), kind.must(t, w.otherDB)
				dbtest.Exec(t, w.otherDB, "CREATE TABLE log (entry VARCHAR(40) PRIMARY KEY)")
				dbtest.Exec(t, w.otherDB, "INSERT INTO log VALUES ('theirs')")
				mustLead(t, w.a, "a")
				dbtest.Begin(t, w.otherDB, "UPDATE log SET entry = 'mine' WHERE entry = 'theirs'")
				waits := waiting(t, fresh, w.otherDB, w.db)

				ready, over, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
				go func() {
					result <- guarded(t.Context(), withGuardTimeout(w.a, time.Second), "a", func(tx *sql.Tx) error {
						err := s.run(tx, func() { close(ready) })
						<-over
						return err
					})
				}()
				<-ready
				if s.locked {
					waitFor(t, 10*time.Second, "the statement to wait", waits)
				}
				proxy.Swallow()
				silent := time.Now()
				const bound = 8 * time.Second
				ctx, cancel := context.WithTimeout(t.Context(), bound)
				defer cancel()
				_, err := lead(ctx, w.b, "b")
				assert.NoError(t, err, "nobody could take over for %v", bound)
				t.Logf("taken over after %v", time.Since(silent))
				close(over)
				proxy.Cut()
				require.Error(t, <-result)
				require.Equal(t, []string{"theirs"}, w.entries(t))
			})
		}
	})
}

// Inside a guarded transaction the server's bounds are the guard timeout, or the
// session's own where these are lower.
func TestTrap04BoundsOfASession(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if engine(t, db.Open(t)) == "MySQL" {
			t.Skip("no such bounds")
		}
		bounds := func(s election.Storage) (bounds string) {
			query := `SELECT CONCAT_WS(' ', @@max_statement_time, @@net_write_timeout, @@idle_transaction_timeout,
				@@idle_write_transaction_timeout, @@idle_readonly_transaction_timeout)`
			if db.Engine == "postgres" {
				query = "SELECT concat_ws(' ', current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'))"
			}
			require.NoError(t, guarded(t.Context(), withGuardTimeout(s, 5*time.Second), "a", func(tx *sql.Tx) error {
				return tx.QueryRow(query).Scan(&bounds)
			}))
			return bounds
		}
		want := map[string][]string{"mysql": {"5.000000 5 5 5 5", "2.500000 3 5 4 5"}, "postgres": {"5s 5s", "2500ms 4s"}}[db.Engine]
		s := kind.must(t, db.Open(t))
		mustLead(t, s, "a")
		require.Equal(t, want[0], bounds(s))
		low := withSettings(t, db,
			map[string]string{"max_statement_time": "2.5", "net_write_timeout": "3", "idle_transaction_timeout": "600", "idle_write_transaction_timeout": "4"},
			map[string]string{"statement_timeout": "2500", "idle_in_transaction_session_timeout": "4000"})
		require.Equal(t, want[1], bounds(kind.must(t, low.Open(t))))
	})
}

// Goroutines that fn left behind write while the COMMIT is under way on a slow
// network, one of them into a deadlock: what is written once another member leads
// is never committed, and an acknowledged COMMIT is one of everything.
func TestTrap24StragglersDuringCommit(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		acknowledged, rounds := 0, 12
		if db.Engine == "postgres" {
			rounds = 3 // a deadlock is not seen before a second has passed
		}
		for round := range rounds {
			fresh := db.Fresh(t)
			behind, proxy := fresh.Behind(t)
			handle, third, changing := behind.OpenSingle(t), fresh.OpenSingle(t), fresh.OpenSingle(t)
			w := guardWorld{db: handle, otherDB: fresh.Open(t), a: kind.must(t, handle), b: kind.must(t, changing)}
			dbtest.Exec(t, w.otherDB, "CREATE TABLE log (entry VARCHAR(40) PRIMARY KEY)")
			mustLead(t, w.a, "a")
			thirdWaits, changeWaits := waiting(t, db, w.otherDB, third), waiting(t, db, w.otherDB, changing)
			other, err := third.Begin()
			require.NoError(t, err)
			_, err = other.Exec("INSERT INTO log (entry) VALUES ('1'), ('2'), ('3'), ('4'), ('5'), ('6'), ('7'), ('8')")
			require.NoError(t, err)
			freed, changed, stragglers := make(chan struct{}), make(chan error, 1), make(chan struct{}, 2)
			err = guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
				require.NoError(t, write(tx, "before"))
				go func() {
					defer close(freed)
					_ = write(other, "before")
					_ = other.Rollback()
				}()
				waitFor(t, 10*time.Second, "the third party to wait", thirdWaits)
				go func() { _, err := lead(t.Context(), w.b, "b"); changed <- err; changed <- err }()
				waitFor(t, 10*time.Second, "the change to wait", changeWaits)
				proxy.Delay(3 * time.Millisecond)
				writing := make(chan struct{})
				go func() { close(writing); _ = write(tx, "1"); stragglers <- struct{}{} }()
				go func() {
					<-changed
					_ = write(tx, "after")
					_ = write(tx, "after all")
					stragglers <- struct{}{}
				}()
				if round%2 == 0 {
					<-writing
				}
				return nil
			})
			<-freed
			require.NoError(t, <-changed)
			<-stragglers
			<-stragglers
			if err == nil {
				acknowledged++
				require.Contains(t, w.entries(t), "before")
			} else {
				require.NotErrorIs(t, err, election.ErrOutcomeUnknown)
				require.Empty(t, w.entries(t))
			}
			require.NotContains(t, w.entries(t), "after")
			require.NotContains(t, w.entries(t), "after all")
		}
		t.Logf("%d of %d were committed", acknowledged, rounds)
	})
}

// Where database/sql has its connections from a pool of pgx's, that one is not
// given back a connection on which fn ended the transaction.
func TestTrap28PoolOfPgx(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "postgres" {
			t.Skip("no such pool")
		}
		for name, end := range map[string]func(tx *sql.Tx) error{
			"tx.Commit": (*sql.Tx).Commit, "tx.Rollback": (*sql.Tx).Rollback,
			"COMMIT": func(tx *sql.Tx) error { _, err := tx.Exec("COMMIT"); return err },
		} {
			for _, wrapped := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/wrapped=%t", name, wrapped), func(t *testing.T) { endOnAPoolOfPgx(t, db.Fresh(t), kind, wrapped, end) })
			}
		}
	})
}

// endOnAPoolOfPgx lets a guarded function end its transaction, on the only connection of a pool of
// pgx's below database/sql, which may be behind a driver's wrapper. That pool must not be given back
// what the guard has changed.
func endOnAPoolOfPgx(t *testing.T, fresh *dbtest.Database, kind storageKind, wrapped bool, end func(tx *sql.Tx) error) {
	t.Helper()
	config, err := pgxpool.ParseConfig(fresh.DSN)
	require.NoError(t, err)
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	w := guardWorld{db: stdlib.OpenDBFromPool(pool), otherDB: fresh.Open(t)}
	if wrapped {
		w.db = sql.OpenDB(dbtest.Wrap(stdlib.GetPoolConnector(pool)))
		w.db.SetMaxIdleConns(0) // as OpenDBFromPool
	}
	t.Cleanup(func() { _ = w.db.Close() })
	w.a, w.b = kind.must(t, w.db), kind.must(t, w.otherDB)
	dbtest.Exec(t, w.otherDB, "CREATE TABLE log (entry VARCHAR(40) PRIMARY KEY)")
	mustLead(t, w.a, "a")
	require.ErrorIs(t, guarded(t.Context(), w.a, "a", end), election.ErrTxnEnded)
	_, err = pool.Exec(t.Context(), "INSERT INTO log VALUES ('plain')")
	require.NoError(t, err)
	require.Equal(t, []string{"plain"}, w.entries(t))
	r, err := w.a.Get(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.a.Update(t.Context(), r, false), "a renewal")
	requireUsable(t, w)
}

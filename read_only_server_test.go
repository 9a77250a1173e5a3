package election_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// Settings that a guarded transaction needs for itself, and that a program has set, too.

// readOnlySession reads what a session says of its later transactions.
func readOnlySession(t *testing.T, db *sql.DB) (setting, source string) {
	t.Helper()
	require.NoError(t, db.QueryRow("SELECT setting, source FROM pg_settings WHERE name = 'default_transaction_read_only'").Scan(&setting, &source))
	return setting, source
}

// A session keeps default_transaction_read_only as it was, wherever that came from, and
// goes on to follow the server's where it did. What the function sets itself stays set.
func TestTrap28ReadOnlySessions(t *testing.T) {
	t.Parallel()
	db := dbtest.OwnPostgres(t)
	writer := db.Open(t)
	w := openSQL(t, writer)
	mustLead(t, w, "a")
	dbtest.Exec(t, writer, "CREATE ROLE reader SUPERUSER LOGIN")
	dbtest.Exec(t, writer, "ALTER ROLE reader SET default_transaction_read_only = on")
	dbtest.Exec(t, writer, "CREATE TABLE plain (x int)")
	u, err := url.Parse(db.DSN)
	require.NoError(t, err)
	u.User = url.User("reader")
	role := *db
	role.DSN = u.String()
	const set, local = "SET default_transaction_read_only = ", "SET LOCAL default_transaction_read_only = "
	for name, from := range map[string]struct {
		db    *dbtest.Database
		first string
	}{
		"default": {db, "SELECT 1"}, "DSN": {db.With("default_transaction_read_only", "on"), "SELECT 1"}, "role": {&role, "SELECT 1"},
		"SET on": {db, set + "on"}, "SET off": {&role, set + "off"},
	} {
		for _, fn := range []string{"", set + "on", set + "off", local + "on", local + "off", "RESET default_transaction_read_only"} {
			for _, fails := range []bool{false, true} {
				handle := from.db.OpenSingle(t)
				dbtest.Exec(t, handle, from.first)
				setting, source := readOnlySession(t, handle)
				s := openSQL(t, handle)
				err := s.TxnWithLeaderLock(t.Context(), "a", func(tx *sql.Tx) error {
					if _, err := tx.Exec(cmp.Or(fn, "SELECT 1")); err != nil || !fails {
						return err
					}
					return context.Canceled
				})
				require.Equal(t, fails, err != nil, "%v", err)
				got, from := readOnlySession(t, handle)
				switch {
				case fails || fn == "" || strings.HasPrefix(fn, local) || fn == set+"on": // the last one is taken for the fence's
					assert.Equal(t, setting, got, "%s %q %v", name, fn, fails)
					if source != "session" {
						assert.Equal(t, source, from, "%s %q %v", name, fn, fails)
					}
				case fn == set+"off":
					assert.Equal(t, "off", got, name)
				}
				_, err = handle.Exec("INSERT INTO plain VALUES (1)")
				assert.Equal(t, got == "on", err != nil, "%s %q %v: %v", name, fn, fails, err)
				require.NoError(t, handle.Close())
			}
		}
	}
}

// The same on MariaDB, and for the bounds of a session.
func TestTrap28ModesOfASession(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		w := newGuardWorld(t, db, storageKinds()[0])
		if engine(t, w.otherDB) != "MariaDB" {
			t.Skip("other settings")
		}
		dbtest.Exec(t, w.db, "SET SESSION tx_read_only = 1")
		for _, statement := range []string{
			"SELECT 1", "COMMIT", "nonsense", "SET SESSION autocommit = 0",
			"SET SESSION max_statement_time = 77, net_write_timeout = 88",
		} {
			_ = guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error { _, err := tx.Exec(statement); return err })
			_, err := w.db.Exec("INSERT INTO log VALUES ('plain')")
			require.Error(t, err, statement)
			require.Contains(t, sessionState(t, w.db), "ON REPEATABLE-READ ON ", statement)
		}
		var statement, write float64
		require.NoError(t, w.db.QueryRow("SELECT @@max_statement_time, @@net_write_timeout").Scan(&statement, &write))
		require.Equal(t, []float64{77, 88}, []float64{statement, write}, "what the function set")
	})
}

// A transaction that is prepared holds its locks with no client and no bound in time: the
// server refuses to prepare a guarded one, also behind a pooler.
func TestTrap04PreparedTransactions(t *testing.T) {
	t.Parallel()
	db := dbtest.OwnPostgres(t, "max_prepared_transactions=2")
	pooled := db.Pooled(t)
	pooled = pooled.With("default_query_exec_mode", "exec")
	for _, through := range []*dbtest.Database{db, pooled} {
		s, other := openSQL(t, through.Open(t)), db.Open(t)
		mustLead(t, s, "a")
		require.NoError(t, s.TxnWithLeaderLock(t.Context(), "a", func(*sql.Tx) error { return nil }))
		for _, swallow := range []bool{false, true} {
			err := s.TxnWithLeaderLock(t.Context(), "a", func(tx *sql.Tx) error {
				_, err := tx.Exec("PREPARE TRANSACTION 'left'")
				if assert.Error(t, err); swallow {
					return nil
				}
				return err
			})
			require.Error(t, err)
			require.Equal(t, swallow, errors.Is(err, election.ErrTxnEnded), "%v", err)
			require.Zero(t, dbtest.Count(t, other, "pg_prepared_xacts"))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := lead(ctx, openSQL(t, other), "b")
		require.NoError(t, err)
	}
}

// The longest guard timeout that can be asked for is one that every server can count.
func TestTrap04LongGuardTimeouts(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		if db.Engine == "mysql" { // else the server would take the nearest value it can
			dbtest.Exec(t, w.db, "SET SESSION sql_mode = 'STRICT_ALL_TABLES'")
		}
		for _, timeout := range []time.Duration{math.MaxInt64, 400 * 24 * time.Hour, 25 * 24 * time.Hour, time.Nanosecond - 1} {
			s := withGuardTimeout(w.a, timeout)
			require.NoError(t, guarded(t.Context(), s, "a", func(*sql.Tx) error { return nil }), timeout)
		}
	})
}

// Two schemas of one database hold elections of their own: the reign of the one that a ctx
// carries is not taken for one of the other.
func TestReignsOfTwoSchemas(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		one, two := kind.must(t, db.Open(t)), kind.must(t, db.Fresh(t).Open(t))
		for range 3 {
			mustLead(t, two, "p")
		}
		result := make(chan error, 1)
		e, err := election.NewElector(election.Config{ID: "p", Storage: one, LeaderCallback: func(ctx context.Context) error {
			result <- guarded(ctx, two, "p", func(*sql.Tx) error { return nil })
			result <- guarded(ctx, two, "q", func(*sql.Tx) error { return nil })
			<-ctx.Done()
			return nil
		}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.RunElection(ctx) }()
		require.NoError(t, <-result, "p leads both")
		err = <-result
		require.ErrorIs(t, err, election.ErrNotLeader)
		require.ErrorContains(t, err, `the context carries the reign of "p" in term 1 of election "" in table `)
		require.ErrorContains(t, err, "which is another election")
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

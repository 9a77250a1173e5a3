package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// Transactions that a server ends by a rule, the program's or its own: the error says
// that nothing was committed, and does not ask for the same to be done again.

func requireRefused(t *testing.T, w guardWorld, err error) {
	t.Helper()
	require.Error(t, err)
	assert.NotErrorIs(t, err, election.ErrOutcomeUnknown)
	assert.False(t, election.IsRetryable(err), "%v", err)
	assert.NotContains(t, w.entries(t), "undone")
	requireUsable(t, w)
}

// What a trigger or a check raises at COMMIT, whatever its code, has undone all.
func TestCommitThatATriggerRefuses(t *testing.T) {
	t.Parallel()
	eachServerStorageAndPooler(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "postgres" {
			t.Skip("nothing is checked at COMMIT there")
		}
		w := newGuardWorld(t, db, kind)
		dbtest.Exec(t, w.otherDB, "CREATE TABLE checked (code text)")
		dbtest.Exec(t, w.otherDB, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SET statement_timeout = 0 AS "+
			"$$BEGIN RAISE EXCEPTION USING ERRCODE = NEW.code; END$$")
		dbtest.Exec(t, w.otherDB, "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON checked DEFERRABLE INITIALLY DEFERRED "+
			"FOR EACH ROW EXECUTE FUNCTION refuse()")
		for _, code := range []string{"P0001", "22012", "42501", "23514", "57014", "XX000", "UE001"} {
			err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
				_, err := tx.Exec("INSERT INTO checked VALUES ('" + code + "')")
				return errors.Join(err, write(tx, "undone"))
			})
			require.ErrorContains(t, err, code)
			requireRefused(t, w, err)
		}
	})
}

// A server that has become read-only says so at COMMIT at the latest, and has rolled back.
func TestCommitOnAServerThatBecameReadOnly(t *testing.T) {
	t.Parallel()
	db := dbtest.OwnMySQL(t)
	admin := db.Open(t)
	// The right to write all the same comes with ALL PRIVILEGES on everything.
	dbtest.Exec(t, admin, "CREATE USER member@'%' IDENTIFIED BY 'secret'")
	config, err := mysql.ParseDSN(db.DSN)
	require.NoError(t, err)
	dbtest.Exec(t, admin, "GRANT ALL ON "+config.DBName+".* TO member@'%'")
	config.User, config.Passwd = "member", "secret"
	member := *db
	member.DSN = config.FormatDSN()
	for _, kind := range storageKinds() {
		w := guardWorld{db: member.OpenSingle(t), otherDB: admin}
		w.a, w.b = kind.must(t, w.db), kind.must(t, admin)
		dbtest.Exec(t, admin, "CREATE TABLE IF NOT EXISTS log (entry VARCHAR(40) PRIMARY KEY)")
		dbtest.Exec(t, admin, "DELETE FROM log")
		mustLead(t, w.b, "a")
		err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
			require.NoError(t, write(tx, "undone"))
			_, err := admin.Exec("SET GLOBAL read_only = 1")
			return err
		})
		dbtest.Exec(t, admin, "SET GLOBAL read_only = 0")
		requireRefused(t, w, err)
	}
}

// A guarded transaction that is too slow for a limit is too slow when it is run again,
// whoever set the limit.
func TestTooSlowIsNotRetryable(t *testing.T) {
	t.Parallel()
	sleep := map[string]string{"mysql": "SELECT SLEEP(5)", "postgres": "SELECT pg_sleep(5)"}
	limit := map[string]string{"mysql": "SET SESSION max_statement_time = 0.1", "postgres": "SET LOCAL statement_timeout = '100ms'"}
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		if engine(t, w.otherDB) == "MySQL" {
			t.Skip("it has no such settings")
		}
		for name, fn := range map[string]func(tx *sql.Tx) error{
			"a limit of the program's": func(tx *sql.Tx) error {
				_, err := tx.Exec(limit[db.Engine])
				require.NoError(t, err)
				_, err = tx.Exec(sleep[db.Engine])
				require.Error(t, err)
				return err
			},
			"the guard timeout under a statement": func(tx *sql.Tx) error {
				_, err := tx.Exec(sleep[db.Engine])
				require.Error(t, err)
				return err
			},
			"the guard timeout between two": func(tx *sql.Tx) error {
				require.NoError(t, write(tx, "undone"))
				for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
					if _, err := tx.Exec("SELECT 1"); err != nil {
						return err
					}
				}
				return errors.New("the guard timeout has not passed")
			},
		} {
			err := guarded(t.Context(), withGuardTimeout(w.a, time.Second), "a", fn)
			require.Error(t, err, name)
			assert.False(t, election.IsRetryable(err), "%s: %v", name, err)
			assert.NotErrorIs(t, err, election.ErrOutcomeUnknown, name)
			requireUsable(t, w)
		}
	})
}

// Nor is one that the server has cut while this process was away, so that the server's
// word comes before that of the own guard timeout.
func TestCutBehindTheBackIsNotRetryable(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "postgres" {
			t.Skip("there an end of the session says nothing of its reason")
		}
		for _, cut := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
			w := newGuardWorld(t, db.Fresh(t), storageKinds()[0])
			err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
				var pid int
				require.NoError(t, tx.QueryRow("SELECT pg_backend_pid()").Scan(&pid))
				ended := make(chan error, 1)
				go func() { _, err := tx.Exec("SELECT pg_sleep(20)"); ended <- err }()
				waitFor(t, 10*time.Second, "it sleeps", func() bool {
					var asleep bool
					err := w.otherDB.QueryRow("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1", pid).Scan(&asleep)
					return err == nil && asleep
				})
				_, err := w.otherDB.Exec(fmt.Sprintf("SELECT %s($1)", cut), pid)
				require.NoError(t, err)
				return <-ended
			})
			require.Error(t, err)
			assert.False(t, election.IsRetryable(err), "%v", err)
			assert.NotErrorIs(t, err, context.DeadlineExceeded)
			requireUsable(t, w)
		}
	})
}

// What ends the session at COMMIT may end it after the commit, and says nothing of the outcome.
func TestSessionThatEndsAtCommit(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "postgres" {
			t.Skip("there nothing runs at COMMIT")
		}
		w := newGuardWorld(t, db, kind)
		dbtest.Exec(t, w.otherDB, "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS "+
			"$$BEGIN IF NEW.entry = 'terminated' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; PERFORM pg_sleep(20); RETURN NULL; END$$")
		dbtest.Exec(t, w.otherDB, "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "+
			"WHEN (NEW.entry IN ('terminated', 'timed out')) EXECUTE FUNCTION linger()")
		ends := map[string]string{"terminated": "SELECT 1"}
		var version int
		require.NoError(t, w.otherDB.QueryRow("SELECT current_setting('server_version_num')::int").Scan(&version))
		if version >= 170000 { // then it is 25P04
			ends["timed out"] = "SET LOCAL transaction_timeout = 300"
		}
		for entry, statement := range ends {
			err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
				_, err := tx.Exec(statement)
				return errors.Join(err, write(tx, entry))
			})
			require.ErrorIs(t, err, election.ErrOutcomeUnknown, entry)
			assert.False(t, election.IsRetryable(err), entry)
			assert.NotContains(t, w.entries(t), entry)
			requireUsable(t, w)
		}
	})
}

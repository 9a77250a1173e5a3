package libpq

import (
	"database/sql"
	"fmt"
	"sync/atomic"
	"testing"

	_ "github.com/lib/pq" // the driver "postgres"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/storagetest"
)

// onPostgres runs a test on PostgreSQL, where there is one.
func onPostgres(t *testing.T, run func(t *testing.T, db *dbtest.Database)) {
	t.Helper()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "postgres" {
			t.Skip("lib/pq speaks to PostgreSQL alone")
		}
		through := *db
		through.Driver = "postgres"
		run(t, &through)
	})
}

// world is an election that "a" leads, and a table to write to.
type world struct {
	db      *sql.DB
	storage *election.SQLStorage
}

func newWorld(t *testing.T, db *dbtest.Database) world {
	t.Helper()
	w := world{db: db.Open(t)}
	var err error
	w.storage, err = election.NewSQLStorage(w.db, "")
	require.NoError(t, err)
	dbtest.Exec(t, w.db, "CREATE TABLE log (entry text PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
	w.lead(t, "a")
	return w
}

func (w world) lead(t *testing.T, id string) {
	t.Helper()
	r, err := w.storage.Get(t.Context())
	require.NoError(t, err)
	r.LeaderID, r.Term = id, r.Term+1
	require.NoError(t, w.storage.Update(t.Context(), r, true))
}

// guarded writes an entry in a guarded transaction and runs statements after it.
func (w world) guarded(t *testing.T, entry string, statements ...string) error {
	t.Helper()
	return w.storage.TxnWithLeaderLock(t.Context(), "a", func(tx *sql.Tx) error {
		for _, statement := range append([]string{"INSERT INTO log VALUES ('" + entry + "')"}, statements...) {
			if _, err := tx.Exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestStorageContract(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, db *dbtest.Database) {
		handles := [2]*sql.DB{db.Open(t), db.Open(t)}
		var opened atomic.Int64
		storagetest.Run(t, func(t *testing.T) (a, b election.Storage) {
			name := fmt.Sprint("election ", opened.Add(1))
			var storages [2]election.Storage
			for i, handle := range handles {
				s, err := election.NewSQLStorage(handle, "")
				require.NoError(t, err)
				storages[i] = s.Election(name)
			}
			return storages[0], storages[1]
		})
	})
}

// What an error says of the transaction does not depend on the driver.
func TestWhatErrorsSay(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, db *dbtest.Database) {
		w := newWorld(t, db)
		require.NoError(t, w.guarded(t, "kept"))
		for name, tc := range map[string]struct {
			statements []string
			code       string
			retryable  bool
			is         error
		}{
			"refused at COMMIT":  {[]string{"INSERT INTO log VALUES ('kept')"}, "23505", false, nil},
			"too slow":           {[]string{"SET LOCAL statement_timeout = 50", "SELECT pg_sleep(5)"}, "57014", false, nil},
			"a conflict":         {[]string{"DO $$BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END$$"}, "40001", true, nil},
			"ended by fn":        {[]string{"ROLLBACK", "SELECT 1"}, "", false, election.ErrTxnEnded},
			"written after that": {[]string{"ROLLBACK", "INSERT INTO log VALUES ('never')"}, "25006", false, nil},
		} {
			err := w.guarded(t, "undone", tc.statements...)
			require.Error(t, err, name)
			require.ErrorContains(t, err, tc.code, name)
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is, name)
			}
			assert.NotErrorIs(t, err, election.ErrOutcomeUnknown, name)
			assert.Equal(t, tc.retryable, election.IsRetryable(err), "%s: %v", name, err)
			require.Equal(t, 1, dbtest.Count(t, w.db, "log"), name)
		}
		w.lead(t, "b")
		require.ErrorIs(t, w.guarded(t, "never"), election.ErrNotLeader)
	})
}

// The end of the session at COMMIT says nothing of its outcome.
func TestSessionThatEndsAtCommit(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, db *dbtest.Database) {
		w := newWorld(t, db)
		dbtest.Exec(t, w.db, "CREATE FUNCTION terminate() RETURNS trigger LANGUAGE plpgsql AS "+
			"$$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END$$")
		dbtest.Exec(t, w.db, "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON log DEFERRABLE INITIALLY DEFERRED "+
			"FOR EACH ROW EXECUTE FUNCTION terminate()")
		err := w.guarded(t, "undone")
		require.ErrorIs(t, err, election.ErrOutcomeUnknown)
		require.False(t, election.IsRetryable(err))
		dbtest.Exec(t, w.db, "DROP TRIGGER late ON log")
		require.NoError(t, w.guarded(t, "kept"))
		require.Equal(t, 1, dbtest.Count(t, w.db, "log"))
	})
}

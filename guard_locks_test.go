package election_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// The COMMIT of a guarded transaction that meets a reader ends for certain, whatever busy timeout the
// DSN sets: SQLite's own wait would outlive the guard timeout, and commit after the call has returned.
func TestGuardOutwaitsReadersWhateverTheDSN(t *testing.T) {
	for name, source := range sqliteSources(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			driver, dsn := source(filepath.Join(t.TempDir(), "election.db"))
			open := func() *sql.DB {
				db, err := sql.Open(driver, dsn)
				require.NoError(t, err)
				t.Cleanup(func() { _ = db.Close() })
				return db
			}
			handle, readers := open(), open()
			s := openSQL(t, handle).WithGuardTimeout(500 * time.Millisecond)
			mustLead(t, s, "a")
			dbtest.Exec(t, readers, "CREATE TABLE entries (n integer)")
			reader := dbtest.Begin(t, readers, "SELECT COUNT(*) FROM entries")
			err := guarded(t.Context(), s, "a", func(tx *sql.Tx) error {
				_, err := tx.Exec("INSERT INTO entries VALUES (1)")
				return err
			})
			require.NotErrorIs(t, err, election.ErrOutcomeUnknown)
			_, getErr := s.Get(t.Context())
			require.NoError(t, getErr, "others read meanwhile")
			reader.Commit()
			want := 1
			if err != nil { // not in WAL mode
				want = 0
			}
			require.Equal(t, want, dbtest.Count(t, readers, "entries"))
		})
	}
}

// A guarded function that does not return keeps nobody waiting once its transaction was rolled back.
func TestHangingFunctionKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		s := openSQL(t, db.Open(t))
		other := s.Election("other")
		mustLead(t, s, "a")
		mustLead(t, other, "b")
		hang, began, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- s.WithGuardTimeout(300*time.Millisecond).TxnWithLeaderLock(t.Context(), "a", func(*sql.Tx) error {
				close(began)
				<-hang
				return nil
			})
		}()
		<-began
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		require.NoError(t, guarded(ctx, other, "b", func(*sql.Tx) error { return nil }))
		close(hang)
		if err := <-ended; db.Engine == "sqlite" { // elsewhere nobody had to wait for its end
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
}

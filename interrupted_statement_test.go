package election_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// slowStatement takes a second or so. One of the drivers may miss the end of a ctx at the statement's start.
const slowStatement = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000) SELECT COUNT(*) FROM n"

// interruptOne runs statements until its ctx has ended one.
func interruptOne(t *testing.T, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}) {
	t.Helper()
	for err := error(nil); err == nil; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err = q.QueryRowContext(ctx, slowStatement).Scan(new(int))
		cancel()
	}
}

// A guarded transaction leaves no statement active on its connection, within itself neither: SQLite would
// refuse VACUUM there, and whoever interrupts one statement would interrupt all that follow.
func TestTrap28NoStatementStaysActive(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "sqlite" {
			t.Skip("servers interrupt a statement by itself")
		}
		handle := db.OpenSingle(t)
		s := kind.must(t, handle)
		mustLead(t, s, "a")
		dbtest.Exec(t, handle, "CREATE TABLE entries (n INTEGER)")
		require.NoError(t, guarded(t.Context(), s, "a", func(tx *sql.Tx) error {
			_, err := tx.Exec("INSERT INTO entries VALUES (1)")
			require.NoError(t, err)
			interruptOne(t, tx)
			_, err = tx.Exec("INSERT INTO entries VALUES (2)")
			return err
		}))
		dbtest.Exec(t, handle, "VACUUM")
		interruptOne(t, handle)
		for range 20 {
			dbtest.Exec(t, handle, "INSERT INTO entries VALUES (3)")
		}
		_, err := s.Get(t.Context())
		require.NoError(t, err)
	})
}

// A guarded transaction whose ctx ends while it waits for the lock returns, whatever becomes of its connection,
// and the next one has its turn.
func TestGuardReturnsFromWaitingForTheLock(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		lock := "INSERT INTO log (entry) VALUES ('blocker')"
		if db.Engine != "sqlite" {
			lock = "UPDATE election SET leader_id = 'a' WHERE id = 2"
		}
		blocker := dbtest.Begin(t, w.otherDB, lock)
		const calls = 10
		returned := make(chan error, calls)
		for range calls {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
				defer cancel()
				returned <- guarded(ctx, w.a, "a", func(*sql.Tx) error { panic("was called") })
			}()
		}
		for range calls {
			select {
			case err := <-returned:
				require.ErrorIs(t, err, context.DeadlineExceeded)
			case <-time.After(time.Minute):
				require.FailNow(t, "a guarded transaction has not returned")
			}
		}
		blocker.Commit()
		require.NoError(t, guarded(t.Context(), w.a, "a", func(*sql.Tx) error { return nil }))
	})
}

package dialect_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
)

func eachSQLite(t *testing.T, run func(t *testing.T, db *dbtest.Database, g guardedTx)) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "sqlite" {
			t.Skip("it is about SQLite")
		}
		h := db.Open(t)
		dbtest.Exec(t, h, "CREATE TABLE l (id integer, leader_id text, version integer)")
		dbtest.Exec(t, h, "INSERT INTO l VALUES (2, 'a', 1)")
		dbtest.Exec(t, h, "CREATE TABLE entries (n integer)")
		g := begin(t, dialect.SQLite(), h, "a")
		require.True(t, g.held)
		run(t, db, g)
	})
}

// A COMMIT succeeds although the rows of a writing statement were left open.
func TestSQLiteCommitsWithOpenRows(t *testing.T) {
	eachSQLite(t, func(t *testing.T, db *dbtest.Database, g guardedTx) {
		rows, err := g.tx.Query("INSERT INTO entries VALUES (1), (2) RETURNING n")
		require.NoError(t, err)
		require.True(t, rows.Next())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, g.fence.Commit(ctx, g.tx))
		require.NoError(t, rows.Close())
		require.Equal(t, 2, dbtest.Count(t, db.Open(t), "entries"))
	})
}

// While a COMMIT waits for a reader, as in the default journal mode, another goroutine may roll the
// transaction back and begin another one. A commit of that other transaction is no success.
func TestSQLiteCommitsItsOwnTransaction(t *testing.T) {
	eachSQLite(t, func(t *testing.T, db *dbtest.Database, g guardedTx) {
		if db.Name != "sqlite-journal" {
			t.Skip("no reader gets in the way of a COMMIT")
		}
		_, err := g.tx.Exec("INSERT INTO entries VALUES (1)")
		require.NoError(t, err)
		readers := db.Open(t)
		reader := dbtest.Begin(t, readers, "SELECT COUNT(*) FROM entries")
		result := make(chan error, 1)
		go func() { result <- g.fence.Commit(t.Context(), g.tx) }()
		for waits := false; !waits; {
			select {
			case err := <-result:
				require.FailNow(t, "it did not wait for the reader", "%v", err)
			default:
				_, err := readers.Exec("SELECT COUNT(*) FROM entries") // refused while a COMMIT waits
				waits = err != nil
			}
		}
		_, err = g.tx.Exec("ROLLBACK; BEGIN")
		require.NoError(t, err)
		reader.Commit()
		require.ErrorIs(t, <-result, dialect.ErrEnded)
		require.Zero(t, dbtest.Count(t, readers, "entries"))
	})
}

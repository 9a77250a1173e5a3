package dbtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

func TestEachDatabaseIsFresh(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		a, b := db.Open(t), db.Fresh(t).Open(t)
		for _, handle := range []interface{ Ping() error }{a, b} {
			require.NoError(t, handle.Ping())
		}
		dbtest.Exec(t, a, `CREATE TABLE x (n integer)`)
		dbtest.Exec(t, b, `CREATE TABLE x (n integer)`)
		dbtest.Exec(t, a, `INSERT INTO x VALUES (1)`)
		require.Equal(t, 1, dbtest.Count(t, a, "x"))
		require.Zero(t, dbtest.Count(t, b, "x"))
		require.Equal(t, 1, dbtest.Count(t, db.OpenSingle(t), "x"))
	})
}

func TestCountedHandle(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		dbtest.Exec(t, handle, `CREATE TABLE x (n integer)`)
		tx, err := handle.Begin()
		require.NoError(t, err)
		_, err = tx.Exec(`INSERT INTO x VALUES (1)`)
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
		require.Equal(t, []string{`CREATE TABLE x (n integer)`, "BEGIN", `INSERT INTO x VALUES (1)`, "COMMIT"}, statements.Take())

		tx, err = handle.Begin()
		require.NoError(t, err)
		_, err = tx.Exec(`INSERT INTO x VALUES (2)`)
		require.NoError(t, err)
		statements.Break()
		require.Error(t, tx.Commit())
		require.Equal(t, 1, dbtest.Count(t, handle, "x"), "what was not committed is lost")
		require.Equal(t, 2, statements.Connections())
	})
}

func TestServerBehindAProxy(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		behind, proxy := db.Behind(t)
		handle := behind.Open(t)
		dbtest.Exec(t, handle, `CREATE TABLE x (n integer)`)
		proxy.Cut()
		require.Error(t, handle.Ping())
		proxy.Pass()
		require.Zero(t, dbtest.Count(t, handle, "x"))
	})
}

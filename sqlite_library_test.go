//go:build cgo

package election_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/sqldb"
)

// A process has storages on a file through one SQLite library: two drop each other's locks.
func TestSecondSQLiteLibraryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(driver, name string) *sql.DB {
		db, err := sql.Open(driver, sqldb.FileDSN(filepath.Join(dir, name)))
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	for i, drivers := range [][2]string{{"sqlite", "sqlite3"}, {"sqlite3", "sqlite"}} {
		name := []string{"a.db", "b.db"}[i]
		one, two := open(drivers[0], name), open(drivers[1], name)
		openSQL(t, one)
		openORM(t, one)                    // the same handle
		openSQL(t, open(drivers[0], name)) // another one of the same library
		_, err := election.NewSQLStorage(two, "")
		require.ErrorContains(t, err, "two SQLite libraries")
		_, err = election.NewORMStorageFromSQLDB(two, "other_table")
		require.ErrorContains(t, err, "two SQLite libraries")

		require.NoError(t, os.Symlink(filepath.Join(dir, name), filepath.Join(dir, "link-"+name)))
		_, err = election.NewSQLStorage(open(drivers[1], "link-"+name), "")
		require.ErrorContains(t, err, "two SQLite libraries")
		openSQL(t, open(drivers[1], "another-"+name))
	}
}

// Once the handles of one library are closed, the other one may have the file.
func TestSQLiteLibraryOfClosedHandles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "election.db")
	for range 2 {
		for _, driver := range []string{"sqlite", "sqlite3"} {
			one, err := sql.Open(driver, sqldb.FileDSN(path))
			require.NoError(t, err)
			other, err := sql.Open(driver, sqldb.FileDSN(path))
			require.NoError(t, err)
			openSQL(t, one)
			openSQL(t, other)
			require.NoError(t, one.Close())
			require.NoError(t, other.Close())
		}
	}
}

// A wrapper is told from a library, and an account of handles keeps none of them alive.
func TestSQLiteLibraryBehindAWrapper(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	wrapped, _ := db.OpenCounted(t)
	openSQL(t, wrapped)
	openSQL(t, db.Open(t))

	closed := func() weak.Pointer[sql.DB] {
		handle, err := sql.Open(db.Driver, db.DSN)
		require.NoError(t, err)
		openSQL(t, handle)
		require.NoError(t, handle.Close())
		return weak.Make(handle)
	}()
	require.Eventually(t, func() bool {
		runtime.GC()
		return closed.Value() == nil // once the goroutines of the pool have ended
	}, 10*time.Second, time.Millisecond)
}

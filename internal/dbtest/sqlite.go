package dbtest

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/sqldb"
)

// sqliteDatabases are the journal modes (in WAL readers and the writer do not
// meet, in the default mode each can lock the other out), the in-memory
// database, and the cgo driver where this build has it. None has a busy timeout
// worth the name: the library must not need one.
func sqliteDatabases(t testing.TB) ([]*Database, string) {
	databases := []*Database{
		SQLite(t),
		sqliteFile(t, "sqlite-journal", "sqlite", ""),
		sqliteMemory(t),
	}
	return slices.Concat(databases, cgoSQLiteDatabases(t)), ""
}

// SQLite is an SQLite file in WAL mode, for tests that need only one database.
func SQLite(t testing.TB) *Database {
	return sqliteFile(t, "sqlite-wal", "sqlite", "?_pragma=journal_mode(WAL)")
}

func sqliteFile(t testing.TB, name, driver, parameters string) *Database {
	path := filepath.Join(t.TempDir(), "election.db")
	return &Database{
		Name: name, Engine: "sqlite", Driver: driver, Path: path,
		DSN:   sqldb.FileDSN(path) + parameters,
		fresh: func(t testing.TB) *Database { return sqliteFile(t, name, driver, parameters) },
	}
}

func sqliteMemory(t testing.TB) *Database {
	// The directory's name is unique in this process, as the database's must be.
	driver, dsn, err := sqldb.MemoryDSN(t.TempDir())
	require.NoError(t, err)
	db := &Database{Name: "sqlite-memory", Engine: "sqlite", Driver: driver, DSN: dsn, fresh: sqliteMemory}
	keep := db.Open(t) // the data live as long as one connection
	require.NoError(t, keep.Ping())
	return db
}

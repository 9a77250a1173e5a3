//go:build cgo

package dbtest

import (
	"testing"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
)

func cgoSQLiteDatabases(t testing.TB) []*Database {
	return []*Database{sqliteFile(t, "sqlite-cgo", "sqlite3", "?_journal_mode=WAL&_busy_timeout=1")}
}

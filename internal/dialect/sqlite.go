package dialect

import (
	"context"
	"database/sql"
	"time"
)

// SQLite describes SQLite, through modernc.org/sqlite or, in programs built
// with cgo, mattn/go-sqlite3.
func SQLite() *Dialect {
	return &Dialect{
		Name: "SQLite",
		// SQLite itself has no limit; this one keeps names readable in messages
		// and catches a wrong argument.
		MaxIdentifier: 255,
		// Lower case and exactly these words. gorm's AutoMigrate of an older version compares them,
		// and rebuilds a table whose types look different.
		Types:        Types{Integer: "integer", Text: "text", Name: "text", Long: "text"},
		InsertNew:    "INSERT INTO",
		SkipExisting: "ON CONFLICT DO NOTHING",
		OneWriter:    true,
		Schema:       "main", // without it, a temporary table of the same name comes first
		look:         lookSQLite,
		UpdateMany: func(table string, c Columns) string {
			return " UPDATE " + table + " AS t SET " + c.assignments() + " FROM renewal r WHERE t." + c.Name + " = r." + c.Name +
				" AND t." + c.Place + " = r." + c.Place + " AND t." + c.Version + " = r.was RETURNING " + c.Name + ", " + c.Place
		},
		Examination: examinationSQLite(),
		quote:       `"`,
		placeholder: func(int) string { return "?" },
		// An explicit collation overrides the column's own.
		byteEqual:  func(column, arg string) string { return column + " = " + arg + " COLLATE BINARY" },
		classify:   classifySQLite,
		rolledBack: rolledBackSQLite,
		identity:   identitySQLite,
		admit:      admitSQLite,
		fence:      fenceSQLite,
		hold:       holdSQLite,
		hasten:     hastenSQLite,
		prepare: func(ctx context.Context, conn *sql.Conn, _ time.Duration) (func() error, error) {
			restore, err := hastenSQLite(ctx, conn)
			return func() error { return orDiscard(conn, restore()) }, err
		},
		last:   "SELECT 1 WHERE 0", // it has no row, which would keep it active, even in the pool
		listen: listenSQLite,
	}
}

func classifySQLite(err error) Class {
	code, ok := sqliteCode(err)
	if !ok {
		return Unknown
	}
	switch code {
	case sqliteConstraintPrimaryKey, sqliteConstraintUnique:
		return Conflict
	case sqliteReadOnlyDBMoved:
		return Fatal
	}
	switch code & 0xff { // the primary code; the rest says where it happened
	case sqliteBusy, sqliteLocked:
		return Retry
	case sqliteInterrupt, sqliteIOErr:
		return Ambiguous
	case sqliteReadOnly:
		return Unusable
	case sqliteError:
		// Also "no such table". SQLite says so of a table that another connection has created, if
		// the file is locked when SQLite wants to read the schema again.
		return Stale
	case sqliteCorrupt, sqliteFull, sqliteCantOpen, sqliteNotADB,
		sqliteConstraint, sqliteMismatch, sqliteTooBig, sqliteAuth, sqlitePerm:
		return Fatal
	}
	return Unknown
}

// rolledBackSQLite trusts three codes only. When COMMIT returns one of them, SQLite has written
// nothing, and the driver rolls the transaction back. SQLITE_ERROR is not among them: it also means
// that no transaction was active.
func rolledBackSQLite(err error) bool {
	code, ok := sqliteCode(err)
	if !ok {
		return false
	}
	switch code & 0xff {
	case sqliteBusy, sqliteLocked, sqliteConstraint:
		return true
	}
	return false
}

// sqliteFileQuery returns the path of the database's file, or "" for a database in memory.
const sqliteFileQuery = `SELECT COALESCE(file, '') FROM pragma_database_list WHERE name = 'main'`

// MemoryIdentity is the identity of the in-memory database that this library opened under name. The
// name "" stands for all in-memory databases that it did not open.
func MemoryIdentity(name string) string { return "sqlite::memory:" + name }

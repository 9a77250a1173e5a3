package dialect

import "reflect"

// Result codes of SQLite, which every driver passes on (https://www.sqlite.org/rescode.html).
const (
	sqliteError      = 1
	sqlitePerm       = 3
	sqliteBusy       = 5
	sqliteLocked     = 6
	sqliteReadOnly   = 8
	sqliteInterrupt  = 9
	sqliteIOErr      = 10
	sqliteCorrupt    = 11
	sqliteFull       = 13
	sqliteCantOpen   = 14
	sqliteTooBig     = 18
	sqliteConstraint = 19
	sqliteMismatch   = 20
	sqliteAuth       = 23
	sqliteNotADB     = 26

	// Extended codes: a primary code in the lowest byte.
	sqliteReadOnlyDBMoved      = 1032
	sqliteConstraintPrimaryKey = 1555
	sqliteConstraintUnique     = 2067
)

// sqliteCode returns the extended result code of an error from either driver.
func sqliteCode(err error) (code int, ok bool) {
	if code, ok = pureSQLiteCode(err); ok {
		return code, true
	}
	return cgoSQLiteCode(err)
}

// cgoSQLiteCode returns the extended result code of mattn/go-sqlite3's error. It finds the type by
// its name: an import of the package would compile SQLite's C in every program.
func cgoSQLiteCode(err error) (code int, ok bool) {
	switch e := err.(type) {
	case nil:
		return 0, false
	case interface{ Unwrap() error }:
		return cgoSQLiteCode(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if code, ok = cgoSQLiteCode(err); ok {
				return code, true
			}
		}
		return 0, false
	}
	v := reflect.ValueOf(err)
	if t := v.Type(); t.PkgPath() != "github.com/mattn/go-sqlite3" || t.Name() != "Error" {
		return 0, false
	}
	for _, field := range []string{"ExtendedCode", "Code"} {
		if f := v.FieldByName(field); f.CanInt() && f.Int() != 0 {
			return int(f.Int()), true
		}
	}
	return 0, true
}

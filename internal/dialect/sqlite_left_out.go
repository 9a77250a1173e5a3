//go:build no_sqlite

package dialect

import "errors"

// ErrWithoutSQLite is the error of everything that needs SQLite.
var ErrWithoutSQLite = errors.New("this program was built without SQLite (build tag no_sqlite)")

func pureSQLiteCode(error) (code int, ok bool) { return 0, false }

func pureSQLiteHooks(any) (connHooks, bool) { return nil, false }

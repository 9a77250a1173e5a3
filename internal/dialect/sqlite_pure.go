//go:build !no_sqlite

package dialect

import (
	"errors"

	"modernc.org/sqlite"
)

// ErrWithoutSQLite is the error of everything that needs SQLite. It is nil, except in a program
// that is built without SQLite.
var ErrWithoutSQLite error

// pureSQLiteCode returns the extended result code of modernc.org/sqlite's error.
func pureSQLiteCode(err error) (code int, ok bool) {
	e := (*sqlite.Error)(nil)
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.Code(), true
}

// pureSQLiteHooks returns the hooks of a connection of modernc.org/sqlite.
func pureSQLiteHooks(conn any) (connHooks, bool) {
	c, ok := conn.(sqlite.HookRegisterer)
	return pureHooks{c}, ok
}

type pureHooks struct{ conn sqlite.HookRegisterer }

func (h pureHooks) set(onCommit func() int32, onRollback func()) {
	h.conn.RegisterCommitHook(onCommit)
	h.conn.RegisterRollbackHook(onRollback)
}

func (pureHooks) wornOut() bool { return false }

package dialect

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
)

// execUnlessClosed is conn.ExecContext, see unlessClosed.
func execUnlessClosed(ctx context.Context, conn *sql.Conn, statement string) error {
	return unlessClosed(conn, func() error {
		_, err := conn.ExecContext(ctx, statement)
		return err
	})
}

// rawUnlessClosed is conn.Raw, see unlessClosed.
func rawUnlessClosed(conn *sql.Conn, f func(driverConn any) error) error {
	return unlessClosed(conn, func() error { return conn.Raw(f) })
}

// unlessClosed calls use, which calls a method of conn while somebody else may be ending a transaction
// on it: database/sql at the end of the transaction's ctx, or a goroutine of a guarded function's. It returns
// sql.ErrConnDone if conn was closed by then.
//
// Whoever ends the transaction closes conn, too, when its connection turns out to be broken. A method of
// conn that begins in the same moment dereferences nil instead of returning sql.ErrConnDone: in Go 1.26
// sql.Conn looks at its done flag before it takes the lock under which closing clears the connection.
func unlessClosed(conn *sql.Conn, use func() error) (err error) {
	defer func() {
		failure := recover()
		if failure == nil {
			return
		}
		if _, ok := failure.(runtime.Error); !ok || !errors.Is(conn.Raw(func(any) error { return nil }), sql.ErrConnDone) {
			panic(failure)
		}
		err = sql.ErrConnDone
	}()
	return use()
}

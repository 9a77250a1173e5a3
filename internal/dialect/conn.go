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

// unlessClosed calls use, which calls a method of conn. Another goroutine may be ending a
// transaction on conn at the same time: database/sql at the end of the transaction's ctx, or a
// goroutine of a guarded function. If conn is closed by then, unlessClosed returns sql.ErrConnDone.
//
// A goroutine that ends a transaction also closes conn if the connection turns out to be broken. In
// Go 1.26 a method of conn that begins at that moment dereferences nil instead of returning
// sql.ErrConnDone: sql.Conn looks at its done flag before it takes the lock under which closing
// clears the connection.
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

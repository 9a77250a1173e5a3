package dialect

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
)

// execUnlessClosed is conn.ExecContext, see notClosed.
func execUnlessClosed(ctx context.Context, conn *sql.Conn, statement string) (err error) {
	defer notClosed(conn, new(bool), &err)
	_, err = conn.ExecContext(ctx, statement)
	return err
}

// rawUnlessClosed is conn.Raw, see notClosed.
func rawUnlessClosed(conn *sql.Conn, f func(driverConn any) error) (err error) {
	begun := false
	defer notClosed(conn, &begun, &err)
	return conn.Raw(func(driverConn any) error {
		begun = true
		return f(driverConn)
	})
}

// notClosed is deferred by a function that calls a method of conn while another goroutine may be
// ending a transaction on it: one of database/sql's at the end of the transaction's ctx, or one
// that a guarded function has left behind. If conn was closed by then, it makes err
// sql.ErrConnDone.
//
// The goroutine that ends the transaction closes conn, too, when its connection turns out to be
// broken. A method of conn that begins in the same moment dereferences nil instead of returning
// sql.ErrConnDone: in Go 1.26 sql.Conn looks at its done flag before it takes the lock under which
// closing clears the connection. A panic of the driver's goes on: it comes when the method has
// begun its work, or leaves conn open.
func notClosed(conn *sql.Conn, begun *bool, err *error) {
	failure := recover()
	if failure == nil {
		return
	}
	_, isRuntime := failure.(runtime.Error)
	if *begun || !isRuntime || !errors.Is(conn.Raw(func(any) error { return nil }), sql.ErrConnDone) {
		panic(failure)
	}
	*err = sql.ErrConnDone
}

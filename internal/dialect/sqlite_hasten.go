package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// sqliteBusyTimeout is the longest time, in milliseconds, that a hastened connection waits for a
// lock within SQLite. SQLite then asks after 1, 2, 5 and 2 ms. It is not 0, because a COMMIT
// outside of WAL mode waits for readers: while it waits, no new reader comes in.
const sqliteBusyTimeout = 10

// hastenSQLite makes the busy timeout of conn short. With a longer one SQLite sleeps for up to 100
// ms at a time. It then does not notice the end of a ctx, and others take the lock meanwhile. The
// statements go to the driver's own connection, past wrappers: they concern only its memory.
func hastenSQLite(ctx context.Context, conn *sql.Conn) (restore func() error, err error) {
	var was int64
	err = rawUnlessClosed(conn, func(dc any) error {
		bare, ok := bareSQLite(dc)
		if !ok {
			return nil // its waits stay as the program has set them
		}
		if was, err = busyTimeout(ctx, bare); err != nil || was <= sqliteBusyTimeout {
			return err
		}
		return setBusyTimeout(bare, sqliteBusyTimeout)
	})
	if err != nil {
		err = fmt.Errorf("set the busy timeout: %w", err)
	}
	return func() error { return restoreBusyTimeout(conn, was) }, err
}

// restoreBusyTimeout sets the busy timeout to was. If was is no more than sqliteBusyTimeout, the
// timeout was not changed. If this fails, nothing is closed: once database/sql is told that a
// connection is bad, it waits for the transaction on it.
func restoreBusyTimeout(conn *sql.Conn, was int64) error {
	if was <= sqliteBusyTimeout {
		return nil
	}
	err := rawUnlessClosed(conn, func(dc any) error {
		bare, ok := bareSQLite(dc)
		if !ok {
			return errors.New("the connection is another one")
		}
		if err := setBusyTimeout(bare, was); err != nil {
			return fmt.Errorf("set the busy timeout back: %w", unwrapBadConn(err))
		}
		return nil
	})
	if errors.Is(err, sql.ErrConnDone) {
		return nil // closed already: nothing is left to restore
	}
	return err
}

// unwrapBadConn keeps the text of a driver's error, without driver.ErrBadConn: see
// restoreBusyTimeout.
func unwrapBadConn(err error) error {
	if errors.Is(err, driver.ErrBadConn) {
		return errors.New(err.Error())
	}
	return err
}

// orDiscard closes conn if err says that it could not be restored. Conn must be in no transaction.
func orDiscard(conn *sql.Conn, err error) error {
	if err != nil {
		Discard(conn)
	}
	return err
}

// bareConn is the part of a driver's own connection that is needed here.
type bareConn interface {
	driver.QueryerContext
	driver.ExecerContext
}

// bareSQLite returns the innermost layer of a driver connection, if it can run statements.
func bareSQLite(dc any) (bare bareConn, ok bool) {
	for layer := range layers(dc) {
		bare, ok = layer.(bareConn)
	}
	return bare, ok
}

func busyTimeout(ctx context.Context, conn driver.QueryerContext) (ms int64, err error) {
	rows, err := conn.QueryContext(ctx, "PRAGMA busy_timeout", nil)
	if err != nil {
		return 0, err
	}
	value := make([]driver.Value, 1)
	err = errors.Join(rows.Next(value), rows.Close())
	ms, _ = value[0].(int64)
	return ms, err
}

// setBusyTimeout takes no ctx: it waits for nothing, and must not be left undone.
func setBusyTimeout(conn driver.ExecerContext, ms int64) error {
	_, err := conn.ExecContext(context.Background(), fmt.Sprintf("PRAGMA busy_timeout = %d", ms), nil)
	return err
}

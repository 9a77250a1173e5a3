package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// sqliteBusyTimeout, in milliseconds, is the longest that a hastened connection waits for a
// lock within SQLite, which asks after 1, 2, 5 and 2 ms then. Not 0: a COMMIT that waits for
// readers, as it does outside of WAL mode, lets no new one in meanwhile.
const sqliteBusyTimeout = 10

// hastenSQLite makes the busy timeout of conn short. With a longer one SQLite sleeps for up to
// 100 ms at a time, deaf to the end of a ctx, while others take the lock in between. The
// statements go to the driver's own connection: they concern nothing but its memory.
func hastenSQLite(ctx context.Context, conn *sql.Conn) (restore func() error, err error) {
	var was int64
	err = conn.Raw(func(dc any) error {
		bare, ok := bareSQLite(dc)
		if !ok {
			return nil // it waits as its program wants it to
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

// restoreBusyTimeout sets what was. 0: it was not changed. It closes nothing if it fails: database/sql, told
// that a connection is bad, would wait for the transaction on it.
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

// unwrapBadConn keeps the words of a driver's error, and not that the connection is bad: see restoreBusyTimeout.
func unwrapBadConn(err error) error {
	if errors.Is(err, driver.ErrBadConn) {
		return errors.New(err.Error())
	}
	return err
}

// orDiscard closes conn, which is in no transaction, if it could not be restored.
func orDiscard(conn *sql.Conn, err error) error {
	if err != nil {
		Discard(conn)
	}
	return err
}

// bareConn is a driver's own connection, as far as it is needed here.
type bareConn interface {
	driver.QueryerContext
	driver.ExecerContext
}

// bareSQLite is the innermost layer of a driver connection, if it can be asked.
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

// setBusyTimeout heeds the end of no ctx: it waits for nothing, and is not to be left undone.
func setBusyTimeout(conn driver.ExecerContext, ms int64) error {
	_, err := conn.ExecContext(context.Background(), fmt.Sprintf("PRAGMA busy_timeout = %d", ms), nil)
	return err
}

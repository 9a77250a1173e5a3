package doctor_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/sqlelect/election/internal/dbtest"
)

// tampering is what a proxy or a wrapped driver does to what passes. Nil: nothing.
type tampering struct {
	rewrite  func(query string) string               // the statements
	affected func(n int64) int64                     // the counts of rows
	reads    string                                  // the DSN to which reads outside of transactions are sent
	noTx     bool                                    // transactions are not begun
	deaf     bool                                    // the end of a ctx is not passed on
	before   func(ctx context.Context, query string) // called first
}

// openTampered opens db through a driver that tampers.
func openTampered(t *testing.T, db *dbtest.Database, how tampering) *sql.DB {
	t.Helper()
	handle := sql.OpenDB(tamperer{how, db.Open(t).Driver(), db.DSN})
	t.Cleanup(func() { _ = handle.Close() })
	return handle
}

type tamperer struct {
	tampering
	driver driver.Driver
	dsn    string
}

func (c tamperer) Driver() driver.Driver { return c.driver }

func (c tamperer) Connect(context.Context) (driver.Conn, error) {
	inner, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	conn := &tamperedConn{Conn: inner, how: c.tampering}
	if c.reads != "" {
		conn.replica, err = c.driver.Open(c.reads)
	}
	return conn, err
}

type tamperedConn struct {
	driver.Conn
	how     tampering
	replica driver.Conn // nil: there is none
	inTx    bool
}

// Raw returns the driver's own connection.
func (c *tamperedConn) Raw() driver.Conn { return c.Conn }

func (c *tamperedConn) Close() error {
	if c.replica != nil {
		_ = c.replica.Close()
	}
	return c.Conn.Close()
}

// pass is what a statement becomes on its way.
func (c *tamperedConn) pass(ctx context.Context, query string) (context.Context, string) {
	if c.how.before != nil {
		c.how.before(ctx, query)
	}
	if c.how.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	if c.how.rewrite != nil {
		query = c.how.rewrite(query)
	}
	return ctx, query
}

func (c *tamperedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	ctx, query = c.pass(ctx, query)
	result, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if err == nil && c.how.affected != nil {
		result = miscounted{result, c.how.affected}
	}
	return result, err
}

func (c *tamperedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	ctx, query = c.pass(ctx, query)
	conn := c.Conn
	if c.replica != nil && !c.inTx {
		conn = c.replica
	}
	return conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *tamperedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	ctx, query = c.pass(ctx, query)
	return c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
}

func (c *tamperedConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	c.inTx = true
	if c.how.noTx {
		return tamperedTx{nil, c}, nil
	}
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, options)
	return tamperedTx{tx, c}, err
}

func (c *tamperedConn) CheckNamedValue(value *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(value)
	}
	return driver.ErrSkip
}

func (c *tamperedConn) Ping(ctx context.Context) error { return c.Conn.(driver.Pinger).Ping(ctx) }

type tamperedTx struct {
	tx   driver.Tx // nil: none was begun
	conn *tamperedConn
}

func (t tamperedTx) Commit() error {
	t.conn.inTx = false
	if t.tx == nil {
		return nil
	}
	return t.tx.Commit()
}

func (t tamperedTx) Rollback() error {
	t.conn.inTx = false
	if t.tx == nil {
		return nil
	}
	return t.tx.Rollback()
}

type miscounted struct {
	driver.Result
	count func(int64) int64
}

func (r miscounted) RowsAffected() (int64, error) {
	n, err := r.Result.RowsAffected()
	return r.count(n), err
}

// interpolated is db as its driver sends statements and arguments in one, where it
// would prepare them first, on another way.
func interpolated(t *testing.T, db *dbtest.Database) *dbtest.Database {
	t.Helper()
	if db.Driver != "mysql" {
		return db
	}
	return withParameter(t, db, "interpolateParams", "true")
}

// Through a driver that changes nothing, nothing is found: what the other tests
// find is what they changed.
func TestUntampered(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		if db.Driver == "sqlite3" {
			t.Skip("its connections have a method Raw of another kind")
		}
		requireTrials(t, examineTampered(t, db, tampering{}))
	})
}

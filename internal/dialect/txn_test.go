package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// endedElsewhere returns a transaction that another goroutine has begun to end. Rows of it are
// still read, so the end waits until release is called.
func endedElsewhere(t *testing.T, watched bool) (txn *Txn, release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	last, err := SQLite().Last(t.Context(), db)
	require.NoError(t, err)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	txn, err = beginTxn(t.Context(), conn)
	require.NoError(t, err)
	if watched {
		require.NoError(t, txn.Watch(t.Context(), last))
	}
	rows, err := txn.Query("SELECT 1 UNION SELECT 2")
	require.NoError(t, err)
	require.True(t, rows.Next())
	require.NoError(t, rows.Scan(&sql.RawBytes{})) // until the next call of rows, no other goroutine can close them
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- txn.Tx.Rollback() }()
	}
	require.ErrorIs(t, <-ended, sql.ErrTxDone) // one of the two Rollbacks has returned, so the other one waits
	return txn, sync.OnceFunc(func() {
		require.NoError(t, rows.Close())
		require.NoError(t, <-ended)
		require.NoError(t, conn.Close())
	})
}

func TestTxnKnowsOfItsOwnEnd(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	for _, end := range []func(*Txn) error{(*Txn).Commit, (*Txn).Rollback, func(x *Txn) error { x.End(); return nil }} {
		txn, err := beginTxn(t.Context(), conn)
		require.NoError(t, err)
		require.NoError(t, end(txn))
		assert.True(t, txn.End())
		assert.True(t, txn.End())
	}
}

// A transaction that another goroutine has begun to end is not committed, and its outcome is known.
func TestCommitBesideAnotherEnd(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	fence, err := fenceSQLite(t.Context(), conn, MemoryIdentity("x"))
	require.NoError(t, err)
	txn, err := fence.Begin(t.Context())
	require.NoError(t, err)
	rows, err := txn.Query("SELECT 1 UNION SELECT 2")
	require.NoError(t, err)
	require.True(t, rows.Next())
	require.NoError(t, rows.Scan(&sql.RawBytes{})) // until the next call of rows no other goroutine closes them
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- txn.Tx.Rollback() }()
	}
	require.ErrorIs(t, <-ended, sql.ErrTxDone) // the other one waits for the rows
	committed := make(chan error)
	go func() { committed <- fence.Commit(t.Context(), txn) }()
	require.Eventually(t, func() bool { return fence.(*sqliteFence).state.Load() != fenceOpen }, 10*time.Second, time.Millisecond)
	require.NoError(t, rows.Close())
	require.ErrorIs(t, <-committed, ErrEnded)
	require.NoError(t, <-ended)
	require.NoError(t, fence.Lift(false))
	require.NoError(t, conn.Close())
}

// End does not report that a transaction is over while rows of it are read.
func TestTrap24TxnDoesNotKnowOfAnothersEnd(t *testing.T) {
	t.Parallel()
	txn, release := endedElsewhere(t, false)
	defer release()
	require.ErrorIs(t, txn.Commit(), sql.ErrTxDone)
	assert.False(t, txn.End())
}

func TestTrap24TxnWaitsForAnothersEnd(t *testing.T) {
	t.Parallel()
	t.Run("which waits for rows", func(t *testing.T) {
		txn, release := endedElsewhere(t, true)
		defer release()
		requireEndWaits(t, txn, release)
	})
	t.Run("which waits for the driver", func(t *testing.T) {
		conn := silentConn{answer: make(chan struct{})}
		db := sql.OpenDB(conn)
		last, err := db.Prepare("SELECT 1")
		require.NoError(t, err)
		pinned, err := db.Conn(t.Context())
		require.NoError(t, err)
		txn, err := beginTxn(t.Context(), pinned)
		require.NoError(t, err)
		require.NoError(t, txn.Watch(t.Context(), last))
		ended := make(chan error, 2)
		for range 2 {
			go func() { ended <- txn.Tx.Rollback() }()
		}
		require.ErrorIs(t, <-ended, sql.ErrTxDone) // one of the two Rollbacks has returned, so the other one is at it
		requireEndWaits(t, txn, func() { close(conn.answer) })
		require.NoError(t, <-ended)
	})
}

// requireEndWaits requires that End of txn waits until release is called.
func requireEndWaits(t *testing.T, txn *Txn, release func()) {
	t.Helper()
	over := make(chan bool, 1)
	go endForTest(txn, over)
	require.Eventually(t, func() bool { return len(over) > 0 || endForTestIsBlocked() }, 10*time.Second, time.Millisecond)
	require.Empty(t, over)
	release()
	assert.True(t, <-over)
}

// endForTest is a function of its own, so that its name is found in the stacks of all goroutines.
func endForTest(txn *Txn, over chan<- bool) { over <- txn.End() }

func endForTestIsBlocked() bool {
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	return slices.ContainsFunc(strings.Split(string(all), "\n\n"), func(stack string) bool {
		return strings.Contains(stack, "dialect.endForTest(") &&
			(strings.Contains(stack, "sync.(*RWMutex).RLock(") || strings.Contains(stack, "sync.(*Mutex).Lock("))
	})
}

// silentConn is a connection whose ROLLBACK waits for an answer. It is its own connector.
type silentConn struct {
	brokenConn
	answer chan struct{}
}

func (c silentConn) Connect(context.Context) (driver.Conn, error)                 { return c, nil }
func (c silentConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return c, nil }
func (c silentConn) Begin() (driver.Tx, error)                                    { return c, nil }
func (c silentConn) Rollback() error                                              { <-c.answer; return nil }
func (c silentConn) Prepare(string) (driver.Stmt, error)                          { return emptyStmt{}, nil }

type emptyStmt struct{}

func (emptyStmt) Close() error                               { return nil }
func (emptyStmt) NumInput() int                              { return 0 }
func (emptyStmt) Exec([]driver.Value) (driver.Result, error) { return driver.ResultNoRows, nil }
func (emptyStmt) Query([]driver.Value) (driver.Rows, error)  { return nil, driver.ErrSkip }

// brokenConn is a connection that turns out to be broken when its transaction is rolled back. It is
// its own connector.
type brokenConn struct{}

func (c brokenConn) Connect(context.Context) (driver.Conn, error) { return c, nil }
func (brokenConn) Driver() driver.Driver                          { return nil }
func (brokenConn) Prepare(string) (driver.Stmt, error)            { return nil, driver.ErrSkip }
func (c brokenConn) Begin() (driver.Tx, error)                    { return c, nil }
func (brokenConn) Commit() error                                  { return nil }
func (brokenConn) Rollback() error                                { return driver.ErrBadConn }
func (brokenConn) Close() error                                   { return nil }
func (brokenConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.ResultNoRows, nil
}

// What the library does behind a transaction does not panic if database/sql closes the connection
// at this very moment. Without protection it panics in about every fifth round.
func TestConnIsClosedBesideItsUse(t *testing.T) {
	t.Parallel()
	db := sql.OpenDB(brokenConn{})
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	for name, use := range map[string]func(*sql.Conn) error{
		"statement": func(conn *sql.Conn) error { return execUnlessClosed(t.Context(), conn, "SELECT 1") },
		"raw":       func(conn *sql.Conn) error { return rawUnlessClosed(conn, func(any) error { return nil }) },
		"hasten":    func(conn *sql.Conn) error { _, err := hastenSQLite(t.Context(), conn); return err },
	} {
		t.Run(name, func(t *testing.T) {
			for range 1000 {
				conn, err := db.Conn(t.Context())
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				tx, err := conn.BeginTx(ctx, nil)
				require.NoError(t, err)
				go func() {
					cancel()
					_ = tx.Rollback()
				}()
				for err = nil; err == nil; {
					err = use(conn)
				}
				require.ErrorIs(t, err, sql.ErrConnDone)
				require.ErrorIs(t, restore(conn, false, "SELECT 1"), nil)
			}
		})
	}
}

// A panic of the driver's goes on: database/sql closes the connection under it, or leaves it open.
func TestPanicOfADriver(t *testing.T) {
	t.Parallel()
	db := sql.OpenDB(panickingConn{})
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	for name, use := range map[string]func(*sql.Conn) error{
		"statement": func(conn *sql.Conn) error { return execUnlessClosed(t.Context(), conn, "SELECT 1") },
		"raw":       func(conn *sql.Conn) error { return rawUnlessClosed(conn, func(any) error { return dereferenceNil() }) },
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			assert.Panics(t, func() { _ = use(conn) })
		})
	}
}

func dereferenceNil() error {
	var none *brokenConn
	return (*none).Close()
}

// panickingConn is a connection whose driver has a bug. It is its own connector.
type panickingConn struct{ brokenConn }

func (c panickingConn) Connect(context.Context) (driver.Conn, error) { return c, nil }
func (panickingConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return nil, dereferenceNil()
}

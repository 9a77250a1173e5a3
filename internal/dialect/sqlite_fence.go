package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
)

// sqliteFence keeps a guarded transaction whole on SQLite, with two hooks on the pinned connection.
// The commit hook refuses every commit but one. The rollback hook tells that the transaction is
// gone. After a raw ROLLBACK, an INSERT OR ROLLBACK or an interrupted write, SQLite drops to
// autocommit, and without the hooks it would commit each later statement on its own.
//
// The state moves one way: from open to permitted to spent, or from open or permitted to ended. The
// hooks run inside the statement that triggers them, under the connection's lock, and must not use
// the connection.
type sqliteFence struct {
	conn  *sql.Conn
	keep  bool // the connection is the database: closing it would lose all data
	state atomic.Int32
}

const (
	fenceOpen int32 = iota
	fencePermitted
	fenceSpent
	fenceEnded
)

// errNoHooks means that guarded transactions are impossible on this driver.
var errNoHooks = errors.New("the driver's connections offer no commit and rollback hooks, " +
	"which guarded transactions on SQLite need: use modernc.org/sqlite or mattn/go-sqlite3 " +
	"(a wrapper must have a method Raw() driver.Conn or Unwrap() driver.Conn)")

func fenceSQLite(_ context.Context, conn *sql.Conn, identity string) (Fence, error) {
	f := &sqliteFence{conn: conn, keep: strings.HasPrefix(identity, MemoryIdentity(""))}
	err := conn.Raw(func(dc any) error {
		hooks, ok := hooksOf(dc)
		if !ok {
			return errNoHooks
		}
		hooks.set(f.onCommit, f.onRollback)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("watch the connection: %w", err)
	}
	return f, nil
}

// onCommit tells SQLite to go on (0) or to roll back (1). It permits one commit only. So a
// statement of a goroutine that outlived the guarded function cannot be committed after the
// library's COMMIT.
func (f *sqliteFence) onCommit() int32 {
	if f.state.CompareAndSwap(fencePermitted, fenceSpent) {
		return 0
	}
	f.end()
	return 1
}

func (f *sqliteFence) onRollback() { f.end() }

func (f *sqliteFence) end() {
	if !f.state.CompareAndSwap(fenceOpen, fenceEnded) {
		f.state.CompareAndSwap(fencePermitted, fenceEnded)
	}
}

func (f *sqliteFence) Ended() bool { return f.state.Load() == fenceEnded }

func (f *sqliteFence) Begin(ctx context.Context) (*Txn, error) { return beginTxn(ctx, f.conn) }

func (f *sqliteFence) Hold(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	return holdSQLite(ctx, tx, c)
}

// holdSQLite writes the row as it is, if the row holds the claim; otherwise it finds no row. If
// this is the transaction's first statement that touches a table, it takes the write lock as BEGIN
// IMMEDIATE would.
func holdSQLite(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	return wrote(tx.ExecContext(ctx, "UPDATE "+c.Table+" SET "+c.Mark+" = "+c.Mark+" WHERE "+c.Where, c.Args...))
}

// Commit tries again while a reader is in the way. (In WAL mode no reader is.) SQLite looks for
// readers before it calls the hook. If there is one, it keeps the transaction open and lets no new
// reader in. The drivers' own Commit would roll back, and a guarded function cannot be run again.
func (f *sqliteFence) Commit(ctx context.Context, tx *Txn) error {
	if !f.state.CompareAndSwap(fenceOpen, fencePermitted) {
		return ErrEnded
	}
	for busy := error(nil); ; {
		_, err := tx.ExecContext(context.WithoutCancel(ctx), "COMMIT") // an interrupted COMMIT may have been done
		switch {
		case err == nil:
			if f.state.Load() != fenceSpent {
				return ErrEnded // a straggler has rolled ours back: this was another transaction, without a write
			}
			return nil
		case strings.Contains(err.Error(), "statements in progress"):
			err := tx.Commit() // which first closes rows that were left open
			if err == nil && f.state.Load() != fenceSpent {
				return ErrEnded
			}
			return uncertain(err, rolledBackSQLite)
		case errors.Is(err, sql.ErrTxDone) && busy != nil:
			err = busy // not sent: database/sql has rolled back, at the end of its ctx
		case Classify(err) == Retry:
			busy = err
			if _, ended := pause(ctx, 2*time.Millisecond, nil); ended == nil {
				continue
			}
		}
		f.end()
		switch ended := f.Ended(); { // then no other goroutine can commit it any more
		case ended && errors.Is(err, sql.ErrTxDone):
			return ErrEnded // COMMIT was not sent
		case ended && rolledBackSQLite(err):
			return err
		}
		return uncertain(err, func(error) bool { return false })
	}
}

func (f *sqliteFence) Rollback(_ context.Context, tx *Txn) error { return tx.Rollback() }

// Lift closes no connection that is known to be in no transaction, not even with discard. A
// goroutine of the guarded function may be closing a statement that it has prepared, and
// modernc.org/sqlite panics if the connection is closed before the statement.
func (f *sqliteFence) Lift(discard bool) error {
	discard = discard && !f.keep && !f.isIdle()
	err := rawUnlessClosed(f.conn, func(dc any) error {
		hooks, ok := hooksOf(dc)
		if !ok || discard || !f.keep && hooks.wornOut() {
			return driver.ErrBadConn // database/sql closes it, hooks and all
		}
		hooks.set(nil, nil)
		return nil
	})
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		return nil // closed already: nothing is left to restore
	}
	return err
}

// isIdle reports whether the connection is in no transaction: inside of one BEGIN fails.
func (f *sqliteFence) isIdle() bool {
	for _, statement := range []string{"BEGIN", "ROLLBACK"} {
		if execUnlessClosed(context.Background(), f.conn, statement) != nil {
			return false
		}
	}
	return true
}

// connHooks are the hooks of one driver connection.
type connHooks interface {
	// set installs both hooks, or removes them when they are nil.
	set(onCommit func() int32, onRollback func())
	// wornOut reports whether the connection should be closed after use.
	wornOut() bool
}

// hooksOf finds the hooks of a driver connection, also behind wrappers.
func hooksOf(dc any) (connHooks, bool) {
	for layer := range layers(dc) {
		if hooks, ok := pureSQLiteHooks(layer); ok {
			return hooks, true
		}
		if c, ok := layer.(cgoRegisterer); ok {
			return cgoHooks{c}, true
		}
	}
	return nil, false
}

// cgoRegisterer is what connections of mattn/go-sqlite3 offer. They are found by these methods, so
// that no program must compile C for them.
type cgoRegisterer interface {
	RegisterCommitHook(func() int)
	RegisterRollbackHook(func())
}

type cgoHooks struct{ conn cgoRegisterer }

func (h cgoHooks) set(onCommit func() int32, onRollback func()) {
	if onCommit == nil {
		h.conn.RegisterCommitHook(nil)
	} else {
		h.conn.RegisterCommitHook(func() int { return int(onCommit()) })
	}
	h.conn.RegisterRollbackHook(onRollback)
}

// wornOut is true for one use in a thousand. The driver frees what a hook needs only when the
// connection is closed, so a connection must not live for ever.
func (cgoHooks) wornOut() bool {
	const uses = 1000
	return rand.IntN(uses) == 0
}

package dialect_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
)

// A goroutine that the guarded function left behind can send statements between any two statements
// that end the transaction.

// gaps is a driver whose connections let a test in before each statement.
type gaps struct {
	driver driver.Driver
	dsn    string
	before func(run func(query string) error) // nil: no statement is let in
}

func (g *gaps) Driver() driver.Driver { return g.driver }

func (g *gaps) Connect(context.Context) (driver.Conn, error) {
	conn, err := g.driver.Open(g.dsn)
	if err != nil {
		return nil, err
	}
	return gapConn{conn.(wholeConn), g}, nil
}

// wholeConn is what the connections of the servers' drivers offer.
type wholeConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.SessionResetter
}

type gapConn struct {
	wholeConn
	gaps *gaps
}

func (c gapConn) gap() {
	if c.gaps.before != nil {
		c.gaps.before(func(query string) error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // bounds the waits for locks
			defer cancel()
			_, err := c.wholeConn.ExecContext(ctx, query, nil)
			return err
		})
	}
}

func (c gapConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.gap()
	return c.wholeConn.ExecContext(ctx, query, args)
}

func (c gapConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := c.wholeConn.BeginTx(ctx, options)
	return gapTx{tx, c}, err
}

type gapTx struct {
	driver.Tx
	conn gapConn
}

func (t gapTx) Commit() error {
	t.conn.gap()
	return t.Tx.Commit()
}

// slip is one statement, or one event, that is slipped in.
type slip struct {
	name string
	run  func(t *testing.T, db *dbtest.Database, run func(query string) error)
}

func slips(engine string) []slip {
	all := []slip{{"deadlock", lose}}
	if engine == "postgres" {
		all = nil // an error ends the transaction there: "nonsense" below stands for it
	}
	for _, statement := range []string{"nonsense", "COMMIT", "ROLLBACK", "CREATE TABLE IF NOT EXISTS y (n INTEGER)"} {
		all = append(all, slip{statement, func(_ *testing.T, _ *dbtest.Database, run func(string) error) { _ = run(statement) }})
	}
	return all
}

// lose makes the transaction of run the victim of a deadlock, if it is open.
func lose(t *testing.T, db *dbtest.Database, run func(query string) error) {
	t.Helper()
	other, err := db.OpenSingle(t).Begin()
	require.NoError(t, err)
	defer func() { _ = other.Rollback() }()
	_, err = other.Exec("INSERT INTO x VALUES (11), (12), (13), (14), (15), (16), (17), (18)")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	freed := make(chan error, 1)
	go func() {
		_, err := other.ExecContext(ctx, "INSERT INTO x VALUES (1)")
		freed <- err
	}()
	if err := run("INSERT INTO x VALUES (11)"); dialect.Classify(err) != dialect.Retry {
		cancel() // there was no deadlock
	}
	<-freed
}

// empty deletes what a round has left. The loser of its deadlock may still hold its locks and be in
// the way.
func empty(t *testing.T, db *sql.DB) {
	t.Helper()
	_, err := db.Exec("DELETE FROM x")
	for deadline := time.Now().Add(10 * time.Second); dialect.Classify(err) == dialect.Retry && time.Now().Before(deadline); {
		_, err = db.Exec("DELETE FROM x")
	}
	require.NoError(t, err)
}

// Whatever is slipped in, and wherever, two things hold. What is written after another member leads
// is not committed. A COMMIT is acknowledged only if the transaction was committed.
func TestNothingSlipsIntoACommit(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		for name, d := range fences(db) {
			fresh := db.Fresh(t)
			other := fresh.Open(t)
			between := &gaps{driver: other.Driver(), dsn: fresh.DSN}
			handle := sql.OpenDB(between)
			t.Cleanup(func() { _ = handle.Close() })
			dbtest.Exec(t, other, "CREATE TABLE l (id INTEGER PRIMARY KEY, leader_id "+d.Types.Text+")")
			dbtest.Exec(t, other, "INSERT INTO l VALUES (2, 'a')")
			dbtest.Exec(t, other, "CREATE TABLE x (n INTEGER PRIMARY KEY)")
			for _, s := range slips(db.Engine) {
				// The first round slips nothing in: it counts the statements.
				for at, sent, statements := -1, 0, 1; at < statements; at, sent = at+1, 0 {
					dbtest.Exec(t, other, "UPDATE l SET leader_id = 'a'")
					empty(t, other)
					g := begin(t, d, handle, "a")
					require.True(t, g.held)
					_, err := g.tx.Exec("INSERT INTO x VALUES (1)")
					require.NoError(t, err)
					changed := false
					between.before = func(run func(string) error) {
						if sent++; sent-1 != at {
							return
						}
						s.run(t, fresh, run)
						ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
						defer cancel()
						_, err := other.ExecContext(ctx, "UPDATE l SET leader_id = 'b'")
						changed = err == nil
						_ = run("INSERT INTO x VALUES (2)")
					}
					err = g.fence.Commit(t.Context(), g.tx)
					between.before = nil
					statements = max(statements, sent)
					what := fmt.Sprintf("%s: %s before statement %d of %d: leader changed: %v, error: %v", name, s.name, at+1, statements, changed, err)
					_ = g.tx.Rollback()
					require.NoError(t, g.fence.Lift(err != nil), what)
					_ = g.conn.Close()
					var early, late int
					row := other.QueryRow("SELECT COUNT(CASE n WHEN 1 THEN 1 END), COUNT(CASE n WHEN 2 THEN 1 END) FROM x")
					require.NoError(t, row.Scan(&early, &late))
					if err == nil {
						assert.Equal(t, 1, early, what)
					} else {
						assert.True(t, errors.Is(err, dialect.ErrEnded) || d.RolledBack(err), what)
					}
					if changed {
						assert.Zero(t, late, what)
					}
				}
			}
		}
	})
}

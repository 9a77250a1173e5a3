package dialect_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
)

// fences are the dialects to test on a server of this kind. On MariaDB this includes MySQL's
// dialect, whose plain statements work there too.
func fences(db *dbtest.Database) map[string]*dialect.Dialect {
	if db.Engine == "postgres" {
		return map[string]*dialect.Dialect{"postgres": dialect.PostgreSQL()}
	}
	return map[string]*dialect.Dialect{"mysql": dialect.MySQL(), "mariadb": dialect.MariaDB()}
}

// guardedTx does by hand what the library does.
type guardedTx struct {
	conn  *sql.Conn
	tx    *dialect.Txn
	fence dialect.Fence
	held  bool
}

func begin(t *testing.T, d *dialect.Dialect, handle *sql.DB, leader string) guardedTx {
	t.Helper()
	conn, err := handle.Conn(t.Context())
	require.NoError(t, err)
	fence, err := d.Fence(t.Context(), conn, "")
	require.NoError(t, err)
	tx, err := fence.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { // a test that fails early would hold locks, and block the drop of the schema
		_ = tx.Rollback()
		_ = fence.Lift(true)
		_ = conn.Close()
	})
	held, err := fence.Hold(t.Context(), tx.Tx, dialect.Claim{Table: d.Quote("l"), Where: "id = ? AND " + d.ByteEqual("leader_id"),
		Args: []any{2, leader}, Mark: "leader_id", Timeout: time.Minute})
	require.NoError(t, err)
	return guardedTx{conn, tx, fence, held}
}

func (g guardedTx) commit(t *testing.T) {
	t.Helper()
	require.NoError(t, g.fence.Commit(t.Context(), g.tx))
	require.True(t, g.tx.End())
	require.NoError(t, g.fence.Lift(false))
	require.NoError(t, g.conn.Close())
}

func (g guardedTx) rollback(t *testing.T) {
	t.Helper()
	require.NoError(t, g.fence.Rollback(t.Context(), g.tx))
	require.NoError(t, g.fence.Lift(false))
	require.NoError(t, g.conn.Close())
}

func TestFencesOnServers(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, requireFences)
}

func TestFencesBehindAPooler(t *testing.T) {
	t.Parallel()
	requireFences(t, dbtest.PgBouncer(t))
}

func requireFences(t *testing.T, db *dbtest.Database) {
	t.Helper()
	for name, d := range fences(db) {
		fresh := db.Fresh(t)
		handle, other := fresh.OpenSingle(t), fresh.Open(t)
		dbtest.Exec(t, other, "CREATE TABLE l (id INTEGER PRIMARY KEY, leader_id "+d.Types.Text+")")
		dbtest.Exec(t, other, "CREATE TABLE x (n INTEGER)")
		dbtest.Exec(t, other, "INSERT INTO l VALUES (2, 'a')")
		insert := func(tx *sql.Tx, n string) error {
			_, err := tx.Exec("INSERT INTO x VALUES (" + n + ")")
			return err
		}

		g := begin(t, d, handle, "b")
		require.False(t, g.held, name)
		g.rollback(t)

		g = begin(t, d, handle, "a")
		require.True(t, g.held, name)
		require.NoError(t, insert(g.tx.Tx, "1"))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		_, err := other.ExecContext(ctx, "UPDATE l SET leader_id = 'b'")
		cancel()
		require.Error(t, err, "%s: the leader changed under a guarded transaction", name)
		g.commit(t)
		require.Equal(t, 1, dbtest.Count(t, other, "x"), name)

		for _, end := range []string{"COMMIT", "ROLLBACK"} {
			g = begin(t, d, handle, "a")
			if _, err = g.tx.Exec(end); err == nil { // some engines refuse it
				assert.Error(t, insert(g.tx.Tx, "2"), "%s: a write after a raw %s", name, end)
				require.ErrorIs(t, g.fence.Commit(t.Context(), g.tx), dialect.ErrEnded, name)
			}
			g.rollback(t)
		}
		dbtest.Exec(t, handle, "INSERT INTO x VALUES (3)")
		require.Equal(t, 2, dbtest.Count(t, other, "x"), "%s: the session is as it was", name)
		if db.Direct != nil {
			continue // behind a pooler the connection has no session of its own
		}
		readOnly := "SET SESSION TRANSACTION READ ONLY"
		if db.Engine == "postgres" {
			readOnly = "SET default_transaction_read_only = on"
		}
		dbtest.Exec(t, handle, readOnly)
		begin(t, d, handle, "a").commit(t)
		begin(t, d, handle, "a").rollback(t)
		_, err = handle.Exec("INSERT INTO x VALUES (4)")
		require.Error(t, err, "%s: so is one that is read-only", name)
	}
}

// After Lift the session is the caller's own. A second Lift finds nothing that the fence remembers
// in the session, and changes nothing. (On PostgreSQL it closes the connection.)
func TestLiftTwice(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine == "postgres" {
			t.Skip("the connection is closed")
		}
		for name, d := range fences(db) {
			fresh := db.Fresh(t)
			handle := fresh.OpenSingle(t)
			dbtest.Exec(t, handle, "CREATE TABLE l (id INTEGER PRIMARY KEY, leader_id "+d.Types.Text+")")
			dbtest.Exec(t, handle, "INSERT INTO l VALUES (2, 'a')")
			session := dbtest.Session{Engine: db.Engine, Conn: handle}
			session.Turn(t)
			before := session.State(t)
			g := begin(t, d, handle, "a")
			require.True(t, g.held)
			require.NoError(t, g.fence.Rollback(t.Context(), g.tx))
			require.NoError(t, g.fence.Lift(false))
			require.NoError(t, g.fence.Lift(false))
			require.NoError(t, g.conn.Close())
			require.Empty(t, dbtest.Changed(before, session.State(t)), name)
		}
	})
}

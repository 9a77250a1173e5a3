package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestQuote(t *testing.T) {
	t.Parallel()
	d := SQLite()
	assert.Equal(t, `"election"`, d.Quote("election"))
	assert.Equal(t, `"a""b"`, d.Quote(`a"b`))
	require.NoError(t, d.CheckIdentifier(`a"; DROP TABLE x --`))
	for _, bad := range []string{"", "a\x00b", "\xff", strings.Repeat("n", d.MaxIdentifier+1)} {
		require.Error(t, d.CheckIdentifier(bad), "%q", bad)
	}
}

func TestRebind(t *testing.T) {
	t.Parallel()
	d := *SQLite()
	assert.Equal(t, "a = ? AND b = ?", d.Rebind("a = ? AND b = ?"))
	d.placeholder = func(n int) string { return fmt.Sprintf("$%d", n) }
	assert.Equal(t, "a = $1 AND b = $2", d.Rebind("a = ? AND b = ?"))
	assert.Equal(t, "a", d.Rebind("a"))
}

func openFile(t *testing.T, driverName string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driverName, "file:"+filepath.ToSlash(filepath.Join(t.TempDir(), "x.db")))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// drivers are the SQLite drivers that this build has.
func drivers() []string {
	if cgoBusy != nil {
		return []string{"sqlite", "sqlite3"}
	}
	return []string{"sqlite"}
}

// The cgo driver's error is found by the names of its package, type and fields.
func TestCodeOfTheCgoDriver(t *testing.T) {
	t.Parallel()
	if cgoBusy == nil {
		t.Skip("no cgo")
	}
	for _, err := range []error{cgoBusy, fmt.Errorf("x: %w", cgoBusy), errors.Join(errors.New("x"), cgoBusy)} {
		code, ok := sqliteCode(err)
		require.True(t, ok)
		require.Equal(t, sqliteBusy, code)
	}
	_, ok := sqliteCode(errors.New("x"))
	require.False(t, ok)
}

func TestClassifyRealErrors(t *testing.T) {
	t.Parallel()
	for _, name := range drivers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openFile(t, name)
			db.SetMaxOpenConns(1)
			exec := func(query string) error {
				_, err := db.Exec(query)
				return err
			}
			require.NoError(t, exec("CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT UNIQUE, n TEXT NOT NULL, c CHECK (c > 0))"))
			require.NoError(t, exec("INSERT INTO t VALUES (1, 'u', 'n', 1)"))
			for query, want := range map[string]Class{
				"INSERT INTO t VALUES (1, 'v', 'n', 1)":  Conflict,
				"INSERT INTO t VALUES (2, 'u', 'n', 1)":  Conflict,
				"INSERT INTO t VALUES (2, 'v', NULL, 1)": Fatal,
				"INSERT INTO t VALUES (2, 'v', 'n', 0)":  Fatal,
				"SELECT * FROM missing":                  Stale,
				"nonsense":                               Stale,
			} {
				err := exec(query)
				require.Error(t, err, query)
				assert.Equal(t, want, Classify(fmt.Errorf("wrapped: %w", err)), "%s: %v", query, err)
			}
			require.NoError(t, exec("PRAGMA query_only = 1"))
			assert.Equal(t, Unusable, Classify(exec("DELETE FROM t")))
		})
	}
}

func TestClassifyLocks(t *testing.T) {
	t.Parallel()
	for _, name := range drivers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openFile(t, name)
			_, err := db.Exec("PRAGMA journal_mode = WAL")
			require.NoError(t, err)
			_, err = db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY)")
			require.NoError(t, err)
			reader, err := db.Begin()
			require.NoError(t, err)
			defer func() { _ = reader.Rollback() }()
			require.NoError(t, reader.QueryRow("SELECT COUNT(*) FROM t").Scan(new(int)))
			_, err = db.Exec("INSERT INTO t VALUES (1)")
			require.NoError(t, err)
			_, err = reader.Exec("INSERT INTO t VALUES (2)") // its snapshot is older than the other write
			require.Error(t, err)
			assert.Equal(t, Retry, Classify(err), "%v", err)
			assert.True(t, SQLite().RolledBack(err))
		})
	}
}

func TestClassifyTransport(t *testing.T) {
	t.Parallel()
	for _, err := range []error{driver.ErrBadConn, io.ErrUnexpectedEOF, context.Canceled, context.DeadlineExceeded} {
		assert.Equal(t, Ambiguous, Classify(fmt.Errorf("wrapped: %w", err)))
		assert.False(t, SQLite().RolledBack(err))
	}
	assert.Equal(t, Unknown, Classify(errors.New("database is locked")), "texts mean nothing")
	assert.Equal(t, Unknown, Classify(nil))
	for class, name := range map[Class]string{Unknown: "unknown", Conflict: "conflict", Retry: "retry",
		Ambiguous: "ambiguous", Unusable: "unusable", Stale: "stale", Fatal: "fatal"} {
		assert.Equal(t, name, class.String())
	}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	for _, name := range drivers() {
		d, err := Detect(t.Context(), openFile(t, name))
		require.NoError(t, err)
		assert.Equal(t, "SQLite", d.Name)
	}
	_, err := Detect(t.Context(), sql.OpenDB(stubConnector{}))
	require.ErrorContains(t, err, "unknown database engine")
	unreachable, err := sql.Open("sqlite", "file:/no/such/dir/x.db")
	require.NoError(t, err)
	_, err = Detect(t.Context(), unreachable)
	require.ErrorContains(t, err, "connect to the database")
}

// stubConnector opens connections that understand nothing.
type stubConnector struct{}

func (stubConnector) Connect(context.Context) (driver.Conn, error) { return stubConn{}, nil }
func (stubConnector) Driver() driver.Driver                        { return nil }

type stubConn struct{ driver.Conn }

func (stubConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("what?") }
func (stubConn) Close() error                        { return nil }

// loop is a wrapper that wraps itself.
type loop struct{ stubConn }

func (l loop) Raw() driver.Conn { return l }

// unwrapper is a wrapper of the other kind.
type unwrapper struct {
	stubConn
	inner driver.Conn
}

func (u unwrapper) Unwrap() driver.Conn { return u.inner }

func TestFenceNeedsHooks(t *testing.T) {
	t.Parallel()
	for _, dc := range []any{stubConn{}, loop{}, unwrapper{inner: loop{}}, nil} {
		_, ok := hooksOf(dc)
		assert.False(t, ok, "%T", dc)
	}
	db := sql.OpenDB(stubConnector{})
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = SQLite().Fence(t.Context(), conn, "")
	require.ErrorIs(t, err, errNoHooks)
}

// fenced returns a connection under a fence, in a transaction that has written.
func fenced(t *testing.T, driverName string) (db *sql.DB, conn *sql.Conn, tx *Txn, fence Fence) {
	t.Helper()
	db = openFile(t, driverName)
	_, err := db.Exec("CREATE TABLE t (x)")
	require.NoError(t, err)
	conn, err = db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	fence, err = SQLite().Fence(t.Context(), conn, "")
	require.NoError(t, err)
	tx, err = fence.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec("INSERT INTO t VALUES (1)")
	require.NoError(t, err)
	return db, conn, tx, fence
}

func rows(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM t").Scan(&n))
	return n
}

func TestFencePermitsOneCommit(t *testing.T) {
	t.Parallel()
	for _, name := range drivers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, conn, tx, fence := fenced(t, name)
			require.False(t, fence.Ended())
			require.NoError(t, fence.Commit(t.Context(), tx))
			_, err := conn.ExecContext(t.Context(), "INSERT INTO t VALUES (2)")
			require.Error(t, err, "a second commit passed in the wake of the first")
			require.Equal(t, 1, rows(t, db))
			require.True(t, tx.End())
			require.NoError(t, fence.Lift(false))
			_, err = conn.ExecContext(t.Context(), "INSERT INTO t VALUES (3)")
			require.NoError(t, err)
			require.Equal(t, 2, rows(t, db))
		})
	}
}

func TestFenceRefusesWhatEnded(t *testing.T) {
	t.Parallel()
	for _, name := range drivers() {
		for _, end := range []string{"COMMIT", "ROLLBACK"} {
			t.Run(name+end, func(t *testing.T) {
				t.Parallel()
				db, conn, tx, fence := fenced(t, name)
				_, _ = tx.Exec(end)
				require.True(t, fence.Ended())
				require.ErrorIs(t, fence.Commit(t.Context(), tx), ErrEnded)
				_, err := tx.Exec("INSERT INTO t VALUES (2)")
				require.Error(t, err)
				require.Zero(t, rows(t, db))
				_ = fence.Rollback(t.Context(), tx)
				require.True(t, tx.End())
				require.NoError(t, fence.Lift(true))
				_, err = conn.ExecContext(t.Context(), "INSERT INTO t VALUES (3)")
				require.NoError(t, err, "it is idle, and need not be discarded")
				require.Equal(t, 1, rows(t, db))

				_, err = conn.ExecContext(t.Context(), "BEGIN")
				require.NoError(t, err)
				require.NoError(t, fence.Lift(true))
				require.ErrorIs(t, conn.PingContext(t.Context()), sql.ErrConnDone, "it was to be discarded")
				require.NoError(t, fence.Lift(false), "nothing is left to do")
			})
		}
	}
}

// An in-memory database may have no other connection: it is never discarded.
func TestFenceKeepsMemory(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	identity, err := SQLite().Identity(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, MemoryIdentity(""), identity)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	fence, err := SQLite().Fence(t.Context(), conn, identity)
	require.NoError(t, err)
	require.NoError(t, fence.Lift(true))
	_, err = conn.ExecContext(t.Context(), "CREATE TABLE t (x)")
	require.NoError(t, err)
}

// Package dbtest gives tests a fresh schema on every database that is there.
//
// SQLite always is. MySQL (or MariaDB) and PostgreSQL are when ELECTION_TEST_MYSQL
// or ELECTION_TEST_POSTGRES holds a DSN of their drivers, with the right to create
// schemas, or when the server's program is installed: then each test process starts
// one of its own. Otherwise they are skipped, unless ELECTION_TEST_REQUIRE, a list
// such as "sqlite,mysql,postgres,pgbouncer", names them: then the test fails.
//
// ELECTION_TEST_POSTGRES_BIN names a directory of PostgreSQL's programs that are to be
// used instead of those installed. ELECTION_TEST_ONLY, a list such as "postgres", leaves
// all other engines out.
//
// PgBouncer is one more, in front of that PostgreSQL, where it is installed; it takes
// the right to create databases.
package dbtest

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/sqldb"
)

// Database is one fresh, empty database or schema.
type Database struct {
	// Name is the engine and the way it is set up, as subtests are called.
	Name string
	// Engine is the database product, such as "sqlite".
	Engine string
	// Driver and DSN are what sql.Open takes.
	Driver, DSN string
	// Direct leads past a pooler, where there is one: connections are then lent out by
	// the transaction, so that no session can be told from another, and no notification
	// arrives.
	Direct *Database
	// Path is the database file, where there is one.
	Path string

	fresh func(t testing.TB) *Database
	// Where a server listens, and its DSN for another TCP address.
	network, address string
	via              func(address string) string
}

// Behind returns the same database, on a server, as it is reached through a proxy.
func (d *Database) Behind(t testing.TB) (*Database, *Proxy) {
	t.Helper()
	proxy := NewProxy(t, d.network, d.address)
	behind := *d
	behind.DSN = d.via(proxy.Address())
	return &behind, proxy
}

// Fresh returns another empty database that is set up in the same way.
func (d *Database) Fresh(t testing.TB) *Database {
	t.Helper()
	return d.fresh(t)
}

// engine can set up databases of one kind. Its setup returns nil and the reason
// when the database is not there.
type engine struct {
	name  string // as in ELECTION_TEST_REQUIRE
	setup func(t testing.TB) (databases []*Database, missing string)
}

func engines() []engine { return append([]engine{{"sqlite", sqliteDatabases}}, withPooler()...) }

func withPooler() []engine { return append(servers(), engine{"pgbouncer", pgbouncerDatabases}) }

func servers() []engine {
	return []engine{{"mysql", mysqlDatabases}, {"postgres", postgresDatabases}}
}

// Each runs a parallel subtest on every database.
func Each(t *testing.T, run func(t *testing.T, db *Database)) {
	t.Helper()
	each(t, engines(), run)
}

// EachServer is Each without the databases that are files or memory, and without
// poolers, through which a handle's connections are not sessions of a server.
func EachServer(t *testing.T, run func(t *testing.T, db *Database)) {
	t.Helper()
	each(t, servers(), run)
}

// EachServerAndPooler is EachServer with the poolers.
func EachServerAndPooler(t *testing.T, run func(t *testing.T, db *Database)) {
	t.Helper()
	each(t, withPooler(), run)
}

// Servers returns a fresh schema on each server that is there, for benchmarks.
func Servers(t testing.TB) (databases []*Database) {
	t.Helper()
	for _, e := range servers() {
		found, _ := e.setup(t)
		databases = append(databases, found...)
	}
	return databases
}

func each(t *testing.T, engines []engine, run func(t *testing.T, db *Database)) {
	t.Helper()
	only := os.Getenv("ELECTION_TEST_ONLY")
	for _, e := range engines {
		if only != "" && !slices.Contains(strings.Split(only, ","), e.name) {
			continue
		}
		if testing.Short() && e.name != "sqlite" {
			t.Run(e.name, func(t *testing.T) { skipServerIfShort(t) })
			continue
		}
		databases, missing := e.setup(t)
		if len(databases) == 0 {
			t.Run(e.name, func(t *testing.T) { skipUnlessRequired(t, e.name, missing) })
		}
		for _, db := range databases {
			t.Run(db.Name, func(t *testing.T) {
				t.Parallel()
				run(t, db)
			})
		}
	}
}

// skipServerIfShort ends a test that needs a server, under -short.
func skipServerIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short leaves out the servers")
	}
}

// skipUnlessRequired ends a test for which something is missing.
func skipUnlessRequired(t testing.TB, name, missing string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("ELECTION_TEST_REQUIRE"), ","), name) {
		t.Fatalf("%s is required: %s", name, missing)
	}
	t.Skipf("no %s: %s", name, missing)
}

// skipWithoutProgram ends a test that starts a server of its own, if err says that this
// machine has none. One that others have started, by a DSN, is of no use to it.
func skipWithoutProgram(t testing.TB, name string, err error) {
	t.Helper()
	switch {
	case !errors.Is(err, ErrNoServer):
	case os.Getenv("ELECTION_TEST_"+strings.ToUpper(name)) != "":
		t.Skip(err)
	default:
		skipUnlessRequired(t, name, err.Error())
	}
}

// Open returns a new handle with a pool of its own, closed when the test ends.
func (d *Database) Open(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open(d.Driver, d.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// OpenSingle returns a new handle whose pool has one connection.
func (d *Database) OpenSingle(t testing.TB) *sql.DB {
	t.Helper()
	db := d.Open(t)
	db.SetMaxOpenConns(1)
	return db
}

// OpenCounted returns a new handle and the statements that are sent through it.
func (d *Database) OpenCounted(t testing.TB) (*sql.DB, *Statements) {
	t.Helper()
	log := new(Statements)
	db := sql.OpenDB(&countingConnector{dsnConnector{d.Open(t).Driver(), d.DSN}, log})
	t.Cleanup(func() { _ = db.Close() })
	return db, log
}

// Exec runs one statement on a handle and fails the test on an error.
func Exec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	_, err := db.Exec(query, args...)
	require.NoError(t, err, query)
}

// Count returns the number of rows in table.
func Count(t testing.TB, db *sql.DB, table string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(fmt.Sprintf("SELECT COUNT(*) FROM %s", table)).Scan(&n))
	return n
}

// Txn is an open transaction of another program, to stand in the way.
type Txn struct {
	t    testing.TB
	conn *sql.Conn
}

// Begin opens a transaction and runs statements in it.
func Begin(t testing.TB, db *sql.DB, statements ...string) *Txn {
	t.Helper()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	for _, statement := range append([]string{"BEGIN"}, statements...) {
		_, err := conn.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	return &Txn{t, conn}
}

// Commit commits, however often it takes: in SQLite's default journal mode a
// reader can be in the way, and the transaction stays open then.
func (x *Txn) Commit() {
	x.t.Helper()
	require.NoError(x.t, sqldb.Retry(x.t.Context(), func() error {
		_, err := x.conn.ExecContext(x.t.Context(), "COMMIT")
		return err
	}))
	require.NoError(x.t, x.conn.Close())
}

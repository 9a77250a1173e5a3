package dbtest

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// PoolSize is how many connections to the server PgBouncer shares out among all
// clients of one Database. It is small, so that they are really shared.
const PoolSize = 4

// pgbouncer is the one that this process uses, in front of its PostgreSQL.
var pgbouncer = sync.OnceValues(startPgBouncer)

func pgbouncerDatabases(t testing.TB) ([]*Database, string) {
	bouncer, err := pgbouncer()
	if err != nil {
		return nil, err.Error()
	}
	server, err := postgresServer()
	require.NoError(t, err)
	return []*Database{behindPgBouncer(t, server, bouncer)}, ""
}

// behindPgBouncer has a database of its own, not only a schema: PgBouncer takes no
// search_path, and keeps a pool for each database.
func behindPgBouncer(t testing.TB, server, bouncer *server) *Database {
	t.Helper()
	name := randomName()
	admin, err := sql.Open("pgx", server.dsn)
	require.NoError(t, err)
	Exec(t, admin, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		used.drop(admin, name)
		_ = admin.Close()
	})
	db := postgresDatabase(t, withSetting(bouncer.dsn, "database", name))
	db.Name = "pgbouncer"
	db.Direct = postgresDatabase(t, withSetting(server.dsn, "database", name))
	db.fresh = func(t testing.TB) *Database { return behindPgBouncer(t, server, bouncer) }
	return db
}

// calm is how long a database is left alone before it is dropped. PgBouncer before
// version 1.21 ends itself when a server says something (as it does to those who are
// connected to a database that is dropped) while a cancel request is on its way there.
const calm = 2 * time.Second

// used are the databases that tests have done with.
var used = databases{since: map[string]time.Time{}}

type databases struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// drop drops the database, or leaves that to a later call. What is left in the end goes
// with the server; on one that is not ours nothing is left.
func (d *databases) drop(admin *sql.DB, name string) {
	if os.Getenv("ELECTION_TEST_POSTGRES") != "" {
		<-time.After(calm)
		_, _ = admin.Exec("DROP DATABASE " + name + " WITH (FORCE)")
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since[name] = time.Now()
	for name, since := range d.since {
		if time.Since(since) > calm {
			_, _ = admin.Exec("DROP DATABASE " + name + " WITH (FORCE)")
			delete(d.since, name)
		}
	}
}

// PgBouncer returns a fresh database of PostgreSQL behind PgBouncer in transaction
// mode. It skips the test where PgBouncer or PostgreSQL is missing, unless
// ELECTION_TEST_REQUIRE lists "pgbouncer".
func PgBouncer(t testing.TB) *Database {
	t.Helper()
	skipServerIfShort(t)
	databases, missing := pgbouncerDatabases(t)
	if missing != "" {
		skipUnlessRequired(t, "pgbouncer", missing)
	}
	return databases[0]
}

// With returns the same database with one more setting in its DSN.
func (d *Database) With(setting, value string) *Database {
	other := *d
	other.Name, other.DSN = d.Name+" "+value, withSetting(d.DSN, setting, value)
	return &other
}

func startPgBouncer() (*server, error) {
	server, err := postgresServer()
	if err != nil {
		return nil, err
	}
	daemon, ok := find([]string{"/usr/sbin"}, "pgbouncer")
	if !ok {
		return nil, fmt.Errorf("pgbouncer: %w", ErrNoServer)
	}
	config, err := pgx.ParseConfig(server.dsn)
	if err != nil {
		return nil, err
	}
	password := ""
	if config.Password != "" {
		password = " password='" + strings.ReplaceAll(config.Password, "'", "''") + "'"
	}
	return program{
		name: "pgbouncer", account: "postgres", driver: "pgx", stop: "TERM",
		// In simple_protocol or exec mode pgx prepares no statements, which PgBouncer
		// knows nothing of before version 1.21.
		dsn: func(port int) string {
			return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable&default_query_exec_mode=exec",
				config.User, port, config.Database)
		},
		files: map[string]string{"common.ini": fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s%s
[pgbouncer]
auth_type = any
listen_addr = 127.0.0.1
unix_socket_dir =
pool_mode = transaction
default_pool_size = %d
max_client_conn = 2000
server_lifetime = 600
`, config.Host, config.Port, config.User, password, PoolSize)},
		prepare: `{ cat common.ini && echo "listen_port = $PORT"; } >pgbouncer.ini`,
		// One that has ended itself (see calm) ends the test that made it do so, and no other.
		serve: fmt.Sprintf(`sh -c 'trap "kill -9 \$child; exit" TERM; while :; do "%s" pgbouncer.ini & child=$!; wait $child; done'`, daemon),
	}.start()
}

package dbtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"
)

// postgresServer is the one that this process uses.
var postgresServer = sync.OnceValues(func() (*server, error) {
	if dsn := os.Getenv("ELECTION_TEST_POSTGRES"); dsn != "" {
		return &server{dsn: dsn}, nil
	}
	return startPostgres()
})

func postgresDatabases(t testing.TB) ([]*Database, string) {
	server, err := postgresServer()
	if err != nil {
		return nil, err.Error()
	}
	return []*Database{postgresSchema(t, server.dsn)}, ""
}

func postgresSchema(t testing.TB, dsn string) *Database {
	t.Helper()
	name := randomName()
	withSchema(t, "pgx", dsn, "SCHEMA "+name, " CASCADE")
	db := postgresDatabase(t, withSetting(dsn, "search_path", name))
	db.fresh = func(t testing.TB) *Database { return postgresSchema(t, dsn) }
	return db
}

// postgresDatabase is what dsn names, where nothing can be made afresh.
func postgresDatabase(t testing.TB, dsn string) *Database {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	network, address := pgxAddress(config)
	return &Database{
		Name: "postgres", Engine: "postgres", Driver: "pgx", DSN: dsn,
		network: network, address: address,
		via: func(address string) string {
			host, port, _ := net.SplitHostPort(address)
			return withSetting(withSetting(dsn, "host", host), "port", port)
		},
	}
}

// pgxAddress is where the first host of config listens.
func pgxAddress(config *pgx.ConnConfig) (network, address string) {
	port := strconv.Itoa(int(config.Port))
	if filepath.IsAbs(config.Host) {
		return "unix", filepath.Join(config.Host, ".s.PGSQL."+port)
	}
	return "tcp", net.JoinHostPort(config.Host, port)
}

// withSetting sets one more setting in a DSN of either form.
func withSetting(dsn, key, value string) string {
	u, err := url.Parse(dsn)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return fmt.Sprintf("%s %s='%s'", dsn, key, value) // the last one counts
	}
	switch key {
	case "host":
		u.Host = net.JoinHostPort(value, u.Port())
	case "port":
		u.Host = net.JoinHostPort(u.Hostname(), value)
	default:
		query := u.Query()
		query.Set(key, value)
		u.RawQuery = query.Encode()
	}
	return u.String()
}

func startPostgres() (*server, error) {
	p, err := postgresProgram("-c fsync=off -c full_page_writes=off")
	if err != nil {
		return nil, err
	}
	return p.start()
}

// postgresProgram is the server, with what makes it faster or safer.
func postgresProgram(durability string) (p program, err error) {
	daemon, ok := findPostgres("postgres")
	initdb, found := findPostgres("initdb", filepath.Dir(daemon))
	if !ok || !found {
		return p, fmt.Errorf("postgres, initdb: %w", ErrNoServer)
	}
	user := randomName()
	return program{
		name: "postgres", account: "postgres", driver: "pgx", stop: "QUIT", gentle: "INT",
		dsn: func(port int) string {
			return fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", user, port)
		},
		prepare: fmt.Sprintf(`'%s' -D data -U %s -A trust -E UTF8 --no-sync`, initdb, user),
		serve: fmt.Sprintf(`'%s' -D data -p "$PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
			%s -c max_connections=500`, daemon, durability),
	}, nil
}

// postgresBin names a directory of PostgreSQL's programs, of another version perhaps
// than what is installed.
const postgresBin = "ELECTION_TEST_POSTGRES_BIN"

// findPostgres is find for a program that comes with the server, perhaps near another one.
func findPostgres(name string, near ...string) (path string, found bool) {
	if dir := os.Getenv(postgresBin); dir != "" { // and no other: two versions must not be mixed
		return findFile([]string{dir}, name)
	}
	return find(append(near, postgresDirs()...), name)
}

// postgresDirs are where Debian keeps the servers, the latest version first.
func postgresDirs() []string {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	version := func(dir string) float64 {
		v, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(dir)), 64)
		return v
	}
	slices.SortFunc(dirs, func(a, b string) int { return int(100 * (version(b) - version(a))) })
	return dirs
}

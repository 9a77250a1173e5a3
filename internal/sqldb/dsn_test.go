package sqldb_test

import (
	"database/sql"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/sqldb"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "odd name?#%20&ä.db")
	for _, dsn := range []string{"sqlite:" + path, sqldb.FileDSN(path), sqldb.FileDSN(path) + "?_pragma=busy_timeout(7)"} {
		db, err := sqldb.Open(dsn)
		require.NoError(t, err)
		var file, journal string
		var synchronous, busy int
		require.NoError(t, db.QueryRow("SELECT file FROM pragma_database_list").Scan(&file))
		require.NoError(t, db.QueryRow("PRAGMA journal_mode").Scan(&journal))
		require.NoError(t, db.QueryRow("PRAGMA synchronous").Scan(&synchronous))
		require.NoError(t, db.QueryRow("PRAGMA busy_timeout").Scan(&busy))
		want, err := filepath.EvalSymlinks(path)
		require.NoError(t, err)
		assert.Equal(t, want, file)
		assert.Equal(t, "wal", journal)
		assert.Equal(t, 2, synchronous, "FULL")
		if strings.HasSuffix(dsn, "(7)") {
			assert.Equal(t, 7, busy)
		} else {
			assert.Equal(t, 1000, busy)
		}
		require.NoError(t, db.Close())
	}
	for dsn, want := range map[string]string{
		"":                              "no scheme",
		"election.db":                   "no scheme",
		"sqlite:":                       "nothing follows",
		"oracle:x":                      `"oracle:x": unknown scheme`,
		"file:a\x00b":                   "NUL",
		"oracle://u:geheim@host/dbname": `"oracle://u:***@host/dbname"`,
		// A parser's error would quote these, or take a part for a host.
		"mysql:u:geheim@tcp(host)/db":              "not of the form",
		"mysql://u:geheim@host":                    "names no database",
		"mysql://u:12/geheim@host/db":              "not of the form",
		"mysql://u:geheim@geheim@host/db":          "not of the form",
		"mysql://u:geheim%@host/db":                "not of the form",
		"mysql://u:geheim@host/db#x":               "not of the form",
		"mysql://a%3Ab:geheim@host/db":             "colon",
		"mysql://u:geheim@host/db?parseTime=maybe": "maybe",
		"postgres:host=h password=geheim":          "not of the form",
		"postgres://u:12/geheim@host/db":           "not of the form",
		"postgresql://u:ge@heim@host/db":           "not of the form",
		"postgres://host/db?password=u@geheim":     "not of the form",
	} {
		_, err := sqldb.Open(dsn)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "geheim")
	}
}

// A relative path stays relative in each form of a DSN, and never begins at the root.
func TestRelativePaths(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	require.NoError(t, err)
	require.NoError(t, os.Mkdir("sub", 0o755))
	for dsn, want := range map[string]string{
		"sqlite:a.db": "a.db", "sqlite:./b.db": "b.db", "sqlite://c.db": "c.db", "sqlite:sub/d.db": "sub/d.db",
		"sqlite://sub/e.db": "sub/e.db", "sqlite:sub/../f.db": "f.db", "file:g.db": "g.db",
		"sqlite:" + filepath.Join(dir, "h.db"): "h.db", "sqlite://" + filepath.Join(dir, "i.db"): "i.db",
	} {
		for _, open := range []func(string) (*sql.DB, error){sqldb.Open, sqldb.OpenAsIs} {
			db, err := open(dsn)
			require.NoError(t, err)
			var file string
			require.NoError(t, db.QueryRow("SELECT file FROM pragma_database_list").Scan(&file), dsn)
			require.NoError(t, db.Close())
			real, err := filepath.EvalSymlinks(dir)
			require.NoError(t, err)
			assert.Equal(t, filepath.Join(real, want), file, dsn)
		}
	}
}

// forward passes connections on to a server that listens elsewhere.
func forward(t *testing.T, network, address, target string) net.Addr {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("no %s: %v", network, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() { _, _ = io.Copy(client, server); _ = client.Close() }()
		}
	}()
	return l.Addr()
}

// Servers are reached by IPv6 and through Unix sockets.
func TestAddressesOfServers(t *testing.T) {
	t.Parallel()
	ping := func(t *testing.T, dsn string) {
		t.Helper()
		db, err := sqldb.Open(dsn)
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		require.NoError(t, db.Ping(), dsn)
	}
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine == "postgres" {
			u, err := url.Parse(db.DSN)
			require.NoError(t, err)
			target, socket := u.Host, filepath.Join(t.TempDir(), ".s.PGSQL.5432")
			u.Host = forward(t, "tcp6", "[::1]:0", target).String()
			ping(t, u.String())
			forward(t, "unix", socket, target)
			u.Host = ""
			ping(t, u.String()+"&host="+filepath.Dir(socket))
			return
		}
		config, err := mysql.ParseDSN(db.DSN)
		require.NoError(t, err)
		socket := filepath.Join(t.TempDir(), "server.sock")
		u := url.URL{Scheme: "mysql", User: url.UserPassword(config.User, config.Passwd), Path: "/" + config.DBName}
		u.Host = forward(t, "tcp6", "[::1]:0", config.Addr).String()
		ping(t, u.String())
		forward(t, "unix", socket, config.Addr)
		u.Host, u.RawQuery = "", "socket="+socket
		ping(t, u.String())
	})
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://u:geheim@host:5432/db?sslmode=disable":   "postgres://u:***@host:5432/db?sslmode=disable",
		"postgres://u:ge@he/im:@host/db":                     "postgres://u:***@host/db",
		"u:geheim@tcp(host:3306)/db?parseTime=true":          "u:***@tcp(host:3306)/db?parseTime=true",
		"host=h user=u password=geheim dbname=d":             "host=h user=u password=*** dbname=d",
		"host=h password='ge he''im' dbname=d":               "host=h password=***'im' dbname=d",
		`password='ge\'heim' host=h`:                         "password=*** host=h",
		"host=h password = geheim":                           "host=h password = ***",
		"postgres://host/db?user=u&password=geheim&x=1":      "postgres://host/db?user=u&password=***&x=1",
		"file:x.db?_auth&_auth_user=u&_auth_pass=geheim&a=b": "file:x.db?_auth&_auth_user=***&_auth_pass=***&a=b",
		"sqlite:/data/election.db":                           "sqlite:/data/election.db",
		"postgres://u@host/db":                               "postgres://u@host/db",
	} {
		assert.Equal(t, want, sqldb.Redact(dsn))
	}
}

func TestRedactError(t *testing.T) {
	t.Parallel()
	const dsn = "postgres://u:ge%20heim@host/db?sslpassword=gans+geheim"
	cause := errors.New("host \"ge%20heim\" or ge heim, gans+geheim, gans geheim; " + dsn)
	err := sqldb.RedactError(dsn, cause)
	require.ErrorIs(t, err, cause)
	assert.Equal(t, `host "***" or ***, ***, ***; postgres://u:***@host/db?sslpassword=***`, err.Error())
	plain := errors.New("refused")
	assert.Equal(t, plain, sqldb.RedactError(dsn, plain))
	assert.NoError(t, sqldb.RedactError(dsn, nil))
	// A word that the rest of the DSN shows is no secret in a text either.
	const developers = "postgres://postgres:postgres@host/db"
	assert.Equal(t, "postgres is not there", sqldb.RedactText(developers, "postgres is not there"))
}

// The driver parses the DSN at the first connection. Its error shows no secret either.
func TestOpenedDatabaseHidesPasswords(t *testing.T) {
	t.Parallel()
	const dsn = "postgres://u:geheim@127.0.0.1:1/db?sslmode=geheim"
	db, err := sqldb.Open(dsn)
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	require.NotContains(t, sqldb.RedactError(dsn, db.Ping()).Error(), ":geheim@")
}

func FuzzDSN(f *testing.F) {
	f.Add("election", "geheim")
	f.Add("a/b?c=d&vfs=x#e%2f%00", "p@ss:w/rd'\\ &x")
	f.Add("..", "'")
	f.Fuzz(func(t *testing.T, name, password string) {
		if db, err := sqldb.Open(name); err == nil { // sql.DB opens nothing before the first connection
			_ = db.Close()
		}
		_ = sqldb.Redact(name)
		checkMemoryName(t, name)
		const mark = "GEHEIM" // makes every password recognisable
		password = mark + password + mark
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password)
		dsns := []string{
			"postgres://user:" + password + "@host/db", "user:" + password + "@tcp(host)/db",
			"host=h password='" + quoted + "' dbname=d",
		}
		if !strings.ContainsAny(password, " \t\r\n\v\f&\\'\u0085\u00a0") && utf8.ValidString(password) {
			dsns = append(dsns, "postgres://host/db?password="+password+"&x=1", "host=h password="+password)
		}
		for _, dsn := range append(dsns, "mysql://user:"+password+"@host/db") {
			if db, err := sqldb.Open(dsn); err == nil {
				_ = db.Close()
			} else if strings.Contains(err.Error(), mark) {
				t.Errorf("the error shows the password %q: %v", password, err)
			}
			if redacted := sqldb.Redact(dsn); strings.Contains(redacted, mark) {
				t.Errorf("%q is shown as %q", dsn, redacted)
			}
		}
	})
}

// checkMemoryName checks that a name is refused, or that it names a database of its own and no
// file.
func checkMemoryName(t *testing.T, name string) {
	driver, source, err := sqldb.MemoryDSN(name)
	if err != nil {
		return
	}
	_, other, err := sqldb.MemoryDSN(name[1:] + "x")
	if err != nil {
		return
	}
	open := func(source string) *sql.DB {
		db, err := sql.Open(driver, source)
		require.NoError(t, err)
		return db
	}
	a, b, c := open(source), open(source), open(other)
	defer func() { _, _, _ = a.Close(), b.Close(), c.Close() }()
	_, err = a.Exec("CREATE TABLE t (x)")
	require.NoError(t, err, "%q", name)
	var n int
	const tables = "SELECT COUNT(*) FROM sqlite_master"
	require.NoError(t, b.QueryRow(tables).Scan(&n))
	require.Equal(t, 1, n, "%q is shared", name)
	if name[1:]+"x" != name {
		require.NoError(t, c.QueryRow(tables).Scan(&n))
		require.Zero(t, n, "%q shares with another name", name)
	}
	var file string
	require.NoError(t, a.QueryRow("SELECT file FROM pragma_database_list").Scan(&file))
	require.Empty(t, file, "%q is a file", name)
}

package dbtest

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// OwnMySQL starts a server for one test, which may change its settings; options
// are those of its command line. The schema is a fresh one.
func OwnMySQL(t testing.TB, options ...string) *Database {
	t.Helper()
	own := keep(t, "mysql", func() (*server, error) { return startIf(mysqlProgram(strings.Join(options, " "))) })
	return mysqlSchema(t, mysqlProduct(t, own.dsn), own.dsn, nil)
}

// OwnPostgres starts a server for one test, which may change its settings, with
// these ones (name=value). The schema is "public".
func OwnPostgres(t testing.TB, settings ...string) *Database {
	t.Helper()
	own := keep(t, "postgres", func() (*server, error) { return startIf(postgresProgram(inCommandLine(settings))) })
	return &Database{Name: "postgres", Engine: "postgres", Driver: "pgx", DSN: own.dsn}
}

// Standby starts a server that replicates from d, which OwnPostgres started, and
// answers reads.
func (d *Database) Standby(t testing.TB, settings ...string) *Database {
	t.Helper()
	u, err := url.Parse(d.DSN)
	require.NoError(t, err)
	backup, ok := findPostgres("pg_basebackup")
	if !ok && os.Getenv(postgresBin) != "" {
		t.Skip("no pg_basebackup in " + postgresBin)
	}
	return d.at(t, "postgres", func(daemon string) program {
		return program{
			prepare: fmt.Sprintf(`'%s' -D data -R -X stream --no-sync -c fast -h 127.0.0.1 -p %s -U %s`,
				backup, u.Port(), u.User.Username()),
			serve: fmt.Sprintf(`'%s' -D data -p "$PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
				-c max_connections=500 %s`, daemon, inCommandLine(settings)),
			stop: "QUIT",
		}
	})
}

// Pooled starts a pooler in front of d, which OwnPostgres started, that lends
// connections by the transaction. It is required by the name "pgbouncer".
func (d *Database) Pooled(t testing.TB) *Database {
	t.Helper()
	u, err := url.Parse(d.DSN)
	require.NoError(t, err)
	return d.at(t, "pgbouncer", func(daemon string) program {
		return program{
			prepare: fmt.Sprintf(`printf '%%s\n' '[databases]' '* = host=127.0.0.1 port=%s user=%s' '[pgbouncer]' \
				'listen_addr = 127.0.0.1' "listen_port = $PORT" 'unix_socket_dir =' 'auth_type = any' 'pool_mode = transaction' \
				'ignore_startup_parameters = extra_float_digits' >pooler.ini`, u.Port(), u.User.Username()),
			serve: fmt.Sprintf(`'%s' pooler.ini`, daemon),
			stop:  "KILL", // it ignores QUIT
		}
	})
}

// at starts a program by which d, or its data, is reached on another port.
func (d *Database) at(t testing.TB, name string, prepared func(daemon string) program) *Database {
	t.Helper()
	u, err := url.Parse(d.DSN)
	require.NoError(t, err)
	own := keep(t, name, func() (*server, error) {
		daemon, ok := findPostgres(name)
		if name != "postgres" {
			daemon, ok = find([]string{"/usr/sbin", "/usr/local/bin"}, name)
		}
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, ErrNoServer)
		}
		p := prepared(daemon)
		p.name, p.account, p.driver = name, "postgres", "pgx"
		p.dsn = func(port int) string { return withSetting(u.String(), "port", fmt.Sprint(port)) }
		return p.start()
	})
	reached := *d
	reached.DSN = own.dsn
	return &reached
}

func startIf(p program, err error) (*server, error) {
	if err != nil {
		return nil, err
	}
	return p.start()
}

// inCommandLine are settings as PostgreSQL's programs take them.
func inCommandLine(settings []string) (line string) {
	for _, s := range settings {
		line += " -c '" + s + "'"
	}
	return line
}

// keep starts a server until the test ends, and skips the test if it is not
// installed and not required.
func keep(t testing.TB, name string, start func() (*server, error)) *server {
	t.Helper()
	skipServerIfShort(t)
	s, err := start()
	skipWithoutProgram(t, name, err)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.alive.Close() })
	return s
}

package dbtest

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// The driver would print every broken connection. (Before any test runs: the
// setting is the process's, and is read without a lock.)
var errSetLogger = mysql.SetLogger(&mysql.NopLogger{})

// mysqlServer is the one that this process uses.
var mysqlServer = sync.OnceValues(func() (*server, error) {
	if errSetLogger != nil {
		return nil, errSetLogger
	}
	if dsn := os.Getenv("ELECTION_TEST_MYSQL"); dsn != "" {
		return &server{dsn: dsn}, nil
	}
	return startMySQL()
})

// mysqlDatabases are a schema as the driver sees it by default, and one where
// UPDATE counts the rows that matched and not those that changed.
func mysqlDatabases(t testing.TB) ([]*Database, string) {
	server, err := mysqlServer()
	if err != nil {
		return nil, err.Error()
	}
	name := mysqlProduct(t, server.dsn)
	return []*Database{
		mysqlSchema(t, name, server.dsn, nil),
		mysqlSchema(t, name+"-found-rows", server.dsn, func(c *mysql.Config) { c.ClientFoundRows = true }),
	}, ""
}

// mysqlProduct tells the two families of servers apart, for the test's name.
func mysqlProduct(t testing.TB, dsn string) string {
	db, err := sql.Open("mysql", dsn)
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	var version string
	require.NoError(t, db.QueryRow(`SELECT VERSION()`).Scan(&version))
	if strings.Contains(version, "MariaDB") {
		return "mariadb"
	}
	return "mysql"
}

func mysqlSchema(t testing.TB, name, dsn string, change func(*mysql.Config)) *Database {
	t.Helper()
	config, err := mysql.ParseDSN(dsn)
	require.NoError(t, err)
	if change != nil {
		change(config)
	}
	config.DBName = randomName()
	withSchema(t, "mysql", dsn, "DATABASE "+config.DBName, "")
	return &Database{
		Name: name, Engine: "mysql", Driver: "mysql", DSN: config.FormatDSN(),
		fresh:   func(t testing.TB) *Database { return mysqlSchema(t, name, dsn, change) },
		network: config.Net, address: config.Addr,
		via: func(address string) string {
			through := config.Clone()
			through.Net, through.Addr = "tcp", address
			return through.FormatDSN()
		},
	}
}

// withSchema creates a schema, and drops it when the test has ended.
func withSchema(t testing.TB, driver, dsn, schema, dropOptions string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	Exec(t, db, "CREATE "+schema)
	t.Cleanup(func() {
		_, _ = db.Exec("DROP " + schema + dropOptions)
		_ = db.Close()
	})
}

func startMySQL() (*server, error) {
	p, err := mysqlProgram("--innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=OFF")
	if err != nil {
		return nil, err
	}
	return p.start()
}

// mysqlProgram is the server, with what makes it faster or safer.
func mysqlProgram(durability string) (p program, err error) {
	dirs := []string{"/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"}
	daemon, ok := find(dirs, "mariadbd", "mysqld")
	if !ok {
		return p, fmt.Errorf("mariadbd, mysqld: %w", errNoServer)
	}
	const common = `--no-defaults --datadir="$PWD/data" --secure-file-priv="$PWD"`
	// MariaDB has a script for what Oracle's server does by itself.
	prepare := fmt.Sprintf(`'%s' %s --initialize-insecure`, daemon, common)
	if install, ok := find(dirs, "mariadb-install-db", "mysql_install_db"); ok {
		prepare = fmt.Sprintf(`'%s' %s --auth-root-authentication-method=normal --skip-test-db`, install, common)
	}
	user := randomName()[:30] // an old limit is 32
	return program{
		name: "mysql", account: "mysql", driver: "mysql", stop: "KILL",
		dsn: func(port int) string { return fmt.Sprintf("%s@tcp(127.0.0.1:%d)/", user, port) },
		files: map[string]string{"init.sql": fmt.Sprintf(
			"CREATE USER %[1]s@'%%';\nGRANT ALL ON *.* TO %[1]s@'%%' WITH GRANT OPTION;\n", user)},
		prepare: prepare,
		serve: fmt.Sprintf(`'%s' %s --socket="$PWD/socket" --init-file="$PWD/init.sql" \
			--bind-address=127.0.0.1 --port="$PORT" --skip-name-resolve --max-connections=1000 --skip-log-bin \
			%s --innodb-buffer-pool-size=64M \
			--loose-mysqlx=OFF --loose-performance-schema=OFF`, daemon, common, durability),
	}, nil
}

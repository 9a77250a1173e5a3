package doctor_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/doctor"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/sqldb"
)

// withParameter is the same database with one more parameter in the DSN: a
// setting of the session, unless the driver knows it.
func withParameter(t *testing.T, db *dbtest.Database, name, value string) *dbtest.Database {
	t.Helper()
	changed := *db
	switch db.Engine {
	case "mysql":
		config, err := mysql.ParseDSN(db.DSN)
		require.NoError(t, err)
		separator := "?"
		if strings.Contains(db.DSN, "?") {
			separator = "&"
		}
		require.NotNil(t, config)
		changed.DSN += separator + name + "=" + url.QueryEscape(value)
	case "postgres":
		u, err := url.Parse(db.DSN)
		require.NoError(t, err)
		query := u.Query()
		query.Set(name, value)
		u.RawQuery = query.Encode()
		changed.DSN = u.String()
	default:
		separator := "?"
		if strings.Contains(db.DSN, "?") {
			separator = "&"
		}
		changed.DSN += separator + "_pragma=" + name + "(" + value + ")"
	}
	return &changed
}

// planted is one thing that is wrong with a session, and the check that must find it.
type planted struct {
	parameter, value string
	check            string
	want             doctor.Verdict
	seen             string
}

func findPlanted(t *testing.T, db *dbtest.Database, p planted) {
	t.Helper()
	c := requireVerdict(t, examine(t, withParameter(t, db, p.parameter, p.value)), p.check, p.want)
	require.Contains(t, c.Seen, p.seen)
}

// What a DSN can do to a session on a server.
func TestPlantedInTheSession(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		for _, p := range map[string][]planted{
			"mysql": {
				{"autocommit", "0", "session settings", doctor.Failure, "autocommit"},
				{"completion_type", "1", "session settings", doctor.Failure, "completion_type"},
				{"idle_transaction_timeout", "3", "session timeouts", doctor.Warning, "idle_transaction_timeout = 3"},
				{"max_statement_time", "0.5", "session timeouts", doctor.Warning, "max_statement_time = 0.5"},
				{"timestamp", "1000000000", "clock", doctor.Warning, "ahead of ours"},
			},
			"postgres": {
				{"synchronous_commit", "off", "flush at commit", doctor.Failure, "synchronous_commit = off"},
				{"default_transaction_read_only", "on", "write access", doctor.Failure, "default_transaction_read_only = on"},
				{"statement_timeout", "3s", "session timeouts", doctor.Warning, "statement_timeout = 3000 ms"},
				{"idle_in_transaction_session_timeout", "3s", "session timeouts", doctor.Warning, "3000 ms"},
			},
		}[db.Engine] {
			t.Run(p.parameter, func(t *testing.T) {
				t.Parallel()
				findPlanted(t, db.Fresh(t), p)
			})
		}
	})
}

// What a DSN can do to SQLite.
func TestPlantedInTheFile(t *testing.T) {
	t.Parallel()
	for _, p := range []planted{
		{"synchronous", "NORMAL", "flush at commit", doctor.Failure, "synchronous = 1"},
		{"synchronous", "OFF", "flush at commit", doctor.Failure, "synchronous = 0"},
		{"journal_mode", "MEMORY", "journal", doctor.Failure, "journal_mode = memory"},
		{"query_only", "1", "write access", doctor.Failure, "query_only = 1"},
		{"busy_timeout", "0", "busy timeout", doctor.Warning, "0 ms"},
		{"locking_mode", "EXCLUSIVE", "locking mode", doctor.Failure, "exclusive"},
	} {
		t.Run(p.parameter+" "+p.value, func(t *testing.T) {
			t.Parallel()
			db := &dbtest.Database{Engine: "sqlite", Driver: "sqlite", DSN: sqldb.FileDSN(filepath.Join(t.TempDir(), "x.db"))}
			if p.parameter == "synchronous" {
				dbtest.Exec(t, db.Open(t), "PRAGMA journal_mode = WAL")
			}
			changed := withParameter(t, db, p.parameter, p.value)
			// A connection of its own, which alone has the file to itself.
			handle := changed.OpenSingle(t)
			report, err := doctor.Examine(t.Context(), handle, doctor.Options{})
			require.NoError(t, err)
			require.Contains(t, requireVerdict(t, report, p.check, p.want).Seen, p.seen)
			require.NoError(t, handle.Close())
			requireNothingLeft(t, db)
		})
	}
	t.Run("a long busy timeout", func(t *testing.T) {
		t.Parallel()
		db := withParameter(t, dbtest.SQLite(t), "busy_timeout", "60000")
		report := examine(t, db)
		requireVerdict(t, report, "busy timeout", doctor.OK)
		requireVerdict(t, report, "bounded waits", doctor.OK)
		requireVerdict(t, report, "lock of the guard", doctor.OK)
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		driver, dsn, err := sqldb.MemoryDSN(t.TempDir())
		require.NoError(t, err)
		db, err := sql.Open(driver, dsn)
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		report, err := doctor.Examine(t.Context(), db, doctor.Options{})
		require.NoError(t, err)
		requireVerdict(t, report, "a file", doctor.Warning)
	})
}

// What is set for a whole server, here one of the test's own, while it runs.
func TestPlantedInTheServer(t *testing.T) {
	ownServers(t)
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		db := dbtest.OwnMySQL(t, "--log-bin=binlog", "--innodb-doublewrite=OFF")
		report := examine(t, db)
		requireVerdict(t, report, "flush of the binary log", doctor.Failure)
		requireVerdict(t, report, "whole pages", doctor.Warning)
		admin := db.Open(t)
		for _, value := range []int{0, 2} {
			dbtest.Exec(t, admin, fmt.Sprintf("SET GLOBAL innodb_flush_log_at_trx_commit = %d", value))
			requireVerdict(t, examine(t, db), "flush at commit", doctor.Failure)
		}
		dbtest.Exec(t, admin, "SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1")
		report = examine(t, db)
		requireVerdict(t, report, "flush at commit", doctor.OK)
		requireVerdict(t, report, "flush of the binary log", doctor.OK)
		dbtest.Exec(t, admin, "SET GLOBAL read_only = 1")
		requireVerdict(t, examine(t, db), "primary", doctor.Failure)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		db := dbtest.OwnPostgres(t)
		admin := db.Open(t)
		for _, p := range []planted{
			{"synchronous_commit", "off", "flush at commit", doctor.Failure, "off"},
			{"fsync", "off", "flush to disk", doctor.Failure, "off"},
			{"full_page_writes", "off", "whole pages", doctor.Warning, "off"},
		} {
			dbtest.Exec(t, admin, "ALTER SYSTEM SET "+p.parameter+" = "+p.value)
			dbtest.Exec(t, admin, "SELECT pg_reload_conf()")
			await(t, func() bool {
				var now string
				require.NoError(t, db.Open(t).QueryRow("SELECT current_setting('"+p.parameter+"')").Scan(&now))
				return now == p.value
			})
			requireVerdict(t, examine(t, db), p.check, p.want)
		}
	})
}

// Tables that cannot hold an election, or only one.
func TestPlantedTables(t *testing.T) {
	t.Parallel()
	const older = "(id integer NOT NULL PRIMARY KEY, leader_id varchar(255) NOT NULL, record text, version integer NOT NULL)"
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		for _, c := range []struct {
			engine, name string // "" for each engine
			create       string
			want         doctor.Verdict
			seen         string
		}{
			{"", "older", "CREATE TABLE election " + older, doctor.Warning, "election, slot"},
			{"", "foreign", "CREATE TABLE election (x integer)", doctor.Failure, "lacks id"},
			{"", "no identity", "CREATE TABLE election (record text, version integer, election integer, slot integer)", doctor.Failure, "lacks id, leader_id"},
			{"mysql", "myisam", "CREATE TABLE election " + older + " ENGINE=MyISAM", doctor.Failure, "InnoDB"},
			{"mysql", "view", "CREATE VIEW election AS SELECT 1 AS id, '' AS leader_id, '' AS record, 1 AS version", doctor.Failure, "InnoDB"},
			{"postgres", "unlogged", "CREATE UNLOGGED TABLE election " + older, doctor.Failure, "unlogged"},
		} {
			if c.engine != "" && c.engine != db.Engine {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				fresh := db.Fresh(t)
				dbtest.Exec(t, fresh.Open(t), c.create)
				require.Contains(t, requireVerdict(t, examine(t, fresh), "table", c.want).Seen, c.seen)
			})
		}
	})
}

// An engine that speaks the language of another one and locks otherwise.
func TestPlantedRelative(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		relative := map[string]string{"mysql": "8.0.11-TiDB-v8.4.0", "postgres": "CockroachDB CCL v24.1.0"}[db.Engine]
		handle := openTampered(t, interpolated(t, db), tampering{rewrite: func(query string) string {
			return strings.Replace(query, "SELECT VERSION()", "SELECT '"+relative+"'", 1)
		}})
		report, err := doctor.Examine(t.Context(), handle, doctor.Options{})
		require.NoError(t, err)
		require.Len(t, report.Checks, 1)
		require.Contains(t, requireVerdict(t, report, "engine", doctor.Failure).Seen, relative)
		require.Error(t, report.Err(doctor.Warning))
	})
}

// A DSN that names no database.
func TestPlantedDSNWithoutDatabase(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "mysql" {
			t.Skip("a database is always named there")
		}
		config, err := mysql.ParseDSN(db.DSN)
		require.NoError(t, err)
		config.DBName = ""
		handle, err := sql.Open("mysql", config.FormatDSN())
		require.NoError(t, err)
		defer func() { require.NoError(t, handle.Close()) }()
		report, err := doctor.Examine(t.Context(), handle, doctor.Options{})
		require.NoError(t, err)
		require.Contains(t, requireVerdict(t, report, "engine", doctor.Failure).Seen, "names no database")
	})
}

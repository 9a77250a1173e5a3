package dbtest

import (
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/sqldb"
)

// Session is a connection as a program finds it in its pool: all that can be asked of it,
// every setting, what the server keeps for it, and what the driver believes of it.
type Session struct {
	Engine string
	// Conn is a *sql.Conn, or a *sql.DB whose pool has one connection.
	Conn sqldb.Execer
}

// backslashes is a parameter that goes wrong in the wrong escape mode.
const backslashes = `\' OR 1=1 -- "\\`

// State is all of it, by name. The parameter comes first: the driver forgets what it
// believed with the answer to the first statement.
func (s Session) State(t testing.TB) map[string]string {
	t.Helper()
	state := map[string]string{}
	add := func(kind, query string, args ...any) {
		rows, err := s.Conn.QueryContext(t.Context(), query, args...)
		require.NoError(t, err, query)
		defer func() { require.NoError(t, rows.Close()) }()
		for rows.Next() {
			var name, value sql.NullString
			require.NoError(t, rows.Scan(&name, &value))
			state[kind+" "+name.String] = value.String
		}
		require.NoError(t, rows.Err())
	}
	switch s.Engine {
	case "mysql":
		add("driver", "SELECT 'parameter', ?", backslashes)
		add("setting", "SELECT variable_name, session_value FROM information_schema.system_variables WHERE session_value IS NOT NULL")
		add("variable", "SELECT variable_name, variable_value FROM information_schema.user_variables WHERE variable_value IS NOT NULL")
		add("session", "SELECT 'schema', DATABASE()")
		add("session", "SELECT 'prepared statements', SUM(IF(variable_name = 'COM_STMT_CLOSE', -variable_value, variable_value)) "+
			"FROM information_schema.session_status WHERE variable_name IN ('COM_STMT_PREPARE', 'COM_STMT_CLOSE')")
		for _, volatile := range []string{"TIMESTAMP", "RAND_SEED1", "RAND_SEED2", "WARNING_COUNT", "ERROR_COUNT"} {
			delete(state, "setting "+volatile) // the program's own statements change these
		}
	case "postgres":
		add("driver", "SELECT 'parameter', $1::text", backslashes)
		add("setting", "SELECT name, setting FROM pg_settings")
		add("lock", "SELECT objid::text, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'")
		add("channel", "SELECT * , '' FROM pg_listening_channels()")
		add("cursor", "SELECT name, statement FROM pg_cursors WHERE is_holdable")
		add("statement", "SELECT name, statement FROM pg_prepared_statements WHERE name NOT LIKE 'stmtcache%'") // others are the driver's
		add("session", "SELECT 'temporary tables', count(*)::text FROM pg_class WHERE relpersistence = 't'")
		add("session", "SELECT 'schemas', current_schemas(true)::text")
	default:
		add("driver", "SELECT 'parameter', ?", backslashes)
		// (A listener's counter of commits, data_version, is no setting.)
		for pragma := range sqlitePragmas {
			add("setting", "SELECT '"+pragma+"', * FROM pragma_"+pragma)
		}
		add("session", "SELECT name, sql FROM temp.sqlite_master")
	}
	require.Equal(t, backslashes, state["driver parameter"])
	return state
}

// ID tells the session from every other one.
func (s Session) ID(t testing.TB) (id string) {
	t.Helper()
	query := map[string]string{
		"mysql": "SELECT CONNECTION_ID()", "postgres": "SELECT pg_backend_pid()", "sqlite": "SELECT COALESCE(MAX(name), '') FROM temp.sqlite_master",
	}[s.Engine]
	rows, err := s.Conn.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	require.True(t, rows.Next())
	require.NoError(t, rows.Scan(&id))
	return id
}

// Turn gives every setting that a program may change another value than its own, where
// there is one under which statements still do what they say.
func (s Session) Turn(t testing.TB) {
	t.Helper()
	turned := 0
	for _, statement := range s.turns(t) {
		if _, err := s.Conn.ExecContext(t.Context(), statement); err == nil {
			turned++
		}
	}
	require.Greater(t, turned, map[string]int{"mysql": 90, "postgres": 100, "sqlite": 10}[s.Engine])
}

// sqlitePragmas are the ones that belong to a connection.
var sqlitePragmas = map[string]string{
	"foreign_keys": "1", "recursive_triggers": "1", "cache_size": "-3000", "synchronous": "1", "busy_timeout": "77", "temp_store": "2",
	"read_uncommitted": "1", "reverse_unordered_selects": "1", "secure_delete": "1", "cell_size_check": "1", "automatic_index": "0",
	"trusted_schema": "0", "journal_size_limit": "100000", "threads": "1", "analysis_limit": "100", "ignore_check_constraints": "1",
	"checkpoint_fullfsync": "1", "fullfsync": "1", "legacy_alter_table": "1", "defer_foreign_keys": "0", "query_only": "0",
}

func (s Session) turns(t testing.TB) (statements []string) {
	t.Helper()
	var query string
	switch s.Engine {
	case "mysql":
		statements = []string{
			"SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE,IGNORE_SPACE,NO_UNSIGNED_SUBTRACTION'",
			"SET SESSION time_zone = '+05:30', tx_isolation = 'SERIALIZABLE', lc_time_names = 'de_DE', lc_messages = 'de_DE', @mine = 7",
		}
		query = `SELECT CONCAT('SET SESSION ', variable_name, ' = ', IF(variable_type = 'BOOLEAN', '1 - ', '1000 + '), '@@', variable_name)
			FROM information_schema.system_variables WHERE variable_scope = 'SESSION' AND read_only = 'NO'
			AND (variable_type LIKE '%INT%' OR variable_type IN ('DOUBLE', 'BOOLEAN'))
			AND variable_name NOT IN ('autocommit', 'tx_read_only', 'sql_log_bin', 'sql_big_selects', 'max_session_mem_used', 'server_id', 'timestamp',
				'sql_slave_skip_counter', 'rand_seed1', 'rand_seed2', 'insert_id', 'last_insert_id', 'identity', 'profiling')
			AND variable_name NOT LIKE 'gtid%' AND variable_name NOT LIKE 'pseudo%' AND variable_name NOT LIKE 'wsrep%' AND variable_name NOT LIKE 'skip%'`
	case "postgres":
		statements = []string{
			"SET default_transaction_isolation = 'repeatable read'", "SET DateStyle = 'SQL, DMY'", "SET IntervalStyle = 'iso_8601'",
			"SET TimeZone = 'Asia/Kolkata'", "SET bytea_output = 'escape'", "SET application_name = 'mine'", "SET synchronous_commit = local",
		}
		query = `SELECT 'SET ' || name || ' = ''' || CASE vartype WHEN 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END
				WHEN 'integer' THEN (setting::bigint + CASE WHEN max_val::bigint - setting::bigint > 100000 THEN 100000 ELSE 1 END)::text
				ELSE (setting::float8 + 0.5)::text END || ''''
			FROM pg_settings WHERE context IN ('user', 'superuser') AND vartype IN ('bool', 'integer', 'real')
			AND name !~ '^(transaction|debug|log|trace|ignore|zero|exit|allow|standard_conforming|max_stack|temp_file|default_transaction_read_only)'`
	default:
		for pragma, value := range sqlitePragmas {
			statements = append(statements, "PRAGMA "+pragma+" = "+value)
		}
		return append(statements, fmt.Sprintf("CREATE TEMPORARY TABLE session_%x (x)", rand.Uint64()))
	}
	rows, err := s.Conn.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var statement string
		require.NoError(t, rows.Scan(&statement))
		statements = append(statements, statement)
	}
	require.NoError(t, rows.Err())
	return statements
}

// Changed lists what is not as it was.
func Changed(before, after map[string]string) (names []string) {
	all := maps.Clone(before)
	maps.Copy(all, after)
	for name := range all {
		if before[name] != after[name] {
			names = append(names, fmt.Sprintf("%s: %q, was %q", name, after[name], before[name]))
		}
	}
	return names
}

// RequireIdle fails unless the driver believes that no transaction is open.
func RequireIdle(t testing.TB, db *sql.DB) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	require.NoError(t, conn.Raw(func(dc any) error {
		if c, ok := dc.(interface{ Conn() *pgx.Conn }); ok {
			require.Equal(t, "I", string(c.Conn().PgConn().TxStatus()))
		}
		return nil
	}))
}

// OpenFresh returns a new handle whose pool keeps its four connections, and a function that
// fails the test unless each of them is as a connection of another handle is, which has
// been used for nothing.
func (d *Database) OpenFresh(t testing.TB) (handle *sql.DB, unchanged func()) {
	t.Helper()
	const size = 4
	own := []string{"setting PSEUDO_THREAD_ID", "session temporary tables", "session prepared statements"}
	fresh, err := d.Open(t).Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = fresh.Close() })
	handle = d.Open(t)
	handle.SetMaxOpenConns(size)
	handle.SetMaxIdleConns(size)
	return handle, func() {
		t.Helper()
		want := Session{d.Engine, fresh}.State(t)
		for range size { // all at once, so that each is looked at
			conn, err := handle.Conn(t.Context())
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			state := Session{d.Engine, conn}.State(t)
			for _, name := range own {
				state[name] = want[name]
			}
			require.Empty(t, Changed(want, state))
		}
	}
}

// EachDriverMode runs a test in every way in which drivers can be told to send
// statements, on every engine.
func EachDriverMode(t *testing.T, run func(t *testing.T, db *Database)) {
	t.Helper()
	modes := map[string][]string{
		"mysql":    {"", "interpolateParams=true", "multiStatements=true", "clientFoundRows=true", "interpolateParams=true&multiStatements=true&clientFoundRows=true&parseTime=true"},
		"postgres": {"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"},
		"sqlite":   {""},
	}
	Each(t, func(t *testing.T, db *Database) {
		if db.Direct != nil || strings.HasSuffix(db.Name, "found-rows") {
			t.Skip("no session of its own, or a mode")
		}
		for _, mode := range modes[db.Engine] {
			t.Run(mode, func(t *testing.T) {
				in := db.Fresh(t)
				switch db.Engine {
				case "mysql":
					in.DSN += "?" + mode
				case "postgres":
					in = in.With("default_query_exec_mode", mode)
				}
				run(t, in)
			})
		}
	})
}

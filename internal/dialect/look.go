package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Queryer is a *sql.DB, *sql.Conn or *sql.Tx.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Sight is what one look at a database shows: the database, the session and one table.
type Sight struct {
	// Identity names the database. It is the same for all handles on one database. Databases that
	// cannot be told apart share an identity.
	Identity string
	// Schema is the schema in which the table was found. "": a table's name needs no schema.
	Schema string
	// Columns are the table's columns, in lower case. There are none if there is no such table.
	Columns []string
	// Keys are the columns of the table's unique, unconditional indexes, in lower case.
	Keys [][]string
	// UnfitSession and UnfitTable say what keeps elections from working; "": nothing does. Each is
	// the end of a sentence: "the session's setting …", "the table …".
	UnfitSession, UnfitTable string
}

// Kinds of the rows of a look. The columns are kind, name, place and value. The rows come in any
// order, but a server sends the session's row first: of an unfit session it may be the only one.
const (
	sightSession  = "session"
	sightIdentity = "identity"
	sightTable    = "table"
	sightSchema   = "schema"
	sightColumn   = "column"
	sightKey      = "key" // name is the index's name, place the column's place in it
)

// Look asks, in one statement, for everything that must be known to open the database, including
// the table of that name: links may be slow. In an unfit session Look may see only that it is
// unfit.
func (d *Dialect) Look(ctx context.Context, q Queryer, table string) (s Sight, err error) {
	args := slices.Repeat([]any{table}, strings.Count(d.look, "?"))
	query, args := d.LinearizableSelect(d.look, args...)
	rows, err := q.QueryContext(ctx, d.Rebind(query), args...)
	if err != nil {
		return s, explainLook(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	keys := map[string][]string{}
	for rows.Next() {
		var kind string
		var place int
		var index, value sql.NullString // in an unfit session an empty string may be NULL
		if err := rows.Scan(&kind, &index, &place, &value); err != nil {
			return s, err
		}
		name := index.String
		switch lower := strings.ToLower(value.String); kind {
		case sightSession:
			s.UnfitSession = value.String
		case sightTable:
			s.UnfitTable = value.String
		case sightIdentity:
			if s.Identity, err = d.identity(value.String); err != nil {
				return s, err
			}
		case sightSchema:
			s.Schema = value.String
		case sightColumn:
			s.Columns = append(s.Columns, lower)
		case sightKey:
			for len(keys[name]) < place {
				keys[name] = append(keys[name], "")
			}
			keys[name][place-1] = lower
		}
	}
	for _, columns := range keys {
		s.Keys = append(s.Keys, columns)
	}
	if err = rows.Err(); err != nil {
		err = explainLook(err)
	}
	return s, err
}

// explainLook wraps the error of a look. If a setting of the session is to blame, it names the
// setting.
func explainLook(err error) error {
	const maxJoinSize = 1104
	if number, _ := mysqlNumber(err); number == maxJoinSize {
		return fmt.Errorf("the session's setting max_join_size is too low: it refuses what elections read: %w", err)
	}
	return fmt.Errorf("look at the database: %w", err)
}

// Identity is Sight.Identity alone.
func (d *Dialect) Identity(ctx context.Context, q Queryer) (string, error) {
	s, err := d.Look(ctx, q, "election")
	return s.Identity, err
}

// lookSQLite looks only at the table in schema main, which is the file: a temporary table may have
// the same name.
const lookSQLite = `SELECT 'identity' AS kind, '' AS name, 0 AS place, file AS value FROM pragma_database_list WHERE name = 'main'
	UNION ALL SELECT 'session', '', 0, 'journal_mode must not be OFF: else a transaction that fails is not undone'
		FROM pragma_journal_mode WHERE journal_mode = 'off'
	UNION ALL SELECT 'column', '', 0, name FROM pragma_table_info(?, 'main')
	UNION ALL SELECT 'key', l.name, i.seqno + 1, i.name FROM pragma_index_list(?, 'main') l, pragma_index_info(l.name, 'main') i
		WHERE l."unique" = 1 AND l.partial = 0 AND i.name IS NOT NULL`

// identitySQLite is the file's path without symbolic links. In-memory databases have no name that
// SQL could read, so they share one identity. A reign in one of them may then be held against
// another database, but no reign is overlooked.
func identitySQLite(file string) (string, error) {
	if file == "" {
		return MemoryIdentity(""), nil
	}
	path, err := filepath.EvalSymlinks(file)
	if err != nil { // moved or deleted since it was opened: its old path must do
		path = file
	}
	return "sqlite:" + path, nil
}

// lookMySQL is the look of the MySQL family. Unfit adds WHEN branches for further settings that
// make a session unfit. All values are binary, so that none is converted on its way.
func lookMySQL(unfit string) string {
	return `SELECT 'session' AS kind, '' AS name, 0 AS place, CAST(CASE` + unfit + `
		WHEN @@autocommit = 0 THEN 'autocommit must be on: else nothing that is written is committed'
		WHEN @@completion_type <> 'NO_CHAIN' THEN 'completion_type must be NO_CHAIN'
		WHEN @@sql_mode LIKE '%EMPTY_STRING_IS_NULL%' THEN 'sql_mode must not hold EMPTY_STRING_IS_NULL'
		WHEN @@log_bin = 1 AND @@binlog_format = 'STATEMENT' THEN 'binlog_format must be ROW or MIXED'
		WHEN @@sql_select_limit < 1000000 THEN 'sql_select_limit must be left at its default: else rows are missing from what is read'
		WHEN @@sql_big_selects = 0 AND @@max_join_size < 1000000 THEN 'max_join_size must be left at its default: else it refuses what elections read'
		WHEN HEX('éé') <> 'C3A9C3A9' THEN 'character_set_client must be that of character_set_connection, and one of whole bytes (charset in the DSN)'
		WHEN NOT (@@character_set_client LIKE 'utf8%' AND COALESCE(@@character_set_results, 'binary') RLIKE '^(utf8|binary)')
			AND @@character_set_client <> COALESCE(@@character_set_results, 'binary')
			THEN 'character_set_results must be that of character_set_client (charset in the DSN)' END AS BINARY) AS value
	UNION ALL SELECT 'identity', '', 0, CAST(DATABASE() AS BINARY)
	UNION ALL SELECT 'table', '', 0, CAST(CONCAT('is a ', LOWER(c.table_type), COALESCE(CONCAT(' of ', c.engine), ''), ', must be a table of InnoDB') AS BINARY)
		FROM information_schema.tables c` + mysqlThisTable + `AND COALESCE(c.engine, '') <> 'InnoDB'
	UNION ALL SELECT 'schema', '', 0, CAST(c.table_schema AS BINARY) FROM information_schema.tables c` + mysqlThisTable + `
	UNION ALL SELECT 'column', '', 0, CAST(c.column_name AS BINARY) FROM information_schema.columns c` + mysqlThisTable +
		// A key over a prefix of a column, or over an expression, is not a key of the library's.
		`UNION ALL SELECT 'key', c.index_name, c.seq_in_index, CAST(c.column_name AS BINARY) FROM information_schema.statistics c` + mysqlThisTable +
		`AND c.non_unique = 0 AND c.sub_part IS NULL AND c.column_name IS NOT NULL`
}

// mysqlThisTable picks the table of this schema whose name is the argument. Names are compared byte
// for byte, unless the server folds their case.
const mysqlThisTable = ` JOIN (SELECT CONVERT(? USING utf8mb4) AS wanted) a
	ON c.table_schema = DATABASE() AND IF(@@lower_case_table_names = 0,
		CAST(c.table_name AS BINARY) = CAST(a.wanted AS BINARY), LOWER(c.table_name) = LOWER(a.wanted)) `

// identityMySQL is the schema's name alone. Nothing else is the same for every handle: the servers
// behind one address, or after a failover, have names and ids of their own.
func identityMySQL(schema string) (string, error) {
	if schema == "" {
		return "", errors.New("the connection names no database")
	}
	return "mysql:" + strings.ToLower(schema), nil
}

// lookPostgres looks at the table that the bare name stands for, in any schema of the search path.
// A relative may call itself PostgreSQL. So the look also takes an advisory lock, as the gate does,
// and asks whether the session holds it.
const lookPostgres = `SELECT 'session' AS kind, '' AS name, 0 AS place,
		CASE WHEN held.n = 0 THEN 'lock: an advisory lock is not held by whom it was given to, so this is not PostgreSQL' END AS value
		FROM (SELECT pg_try_advisory_xact_lock_shared(5493264017264590177) AS given OFFSET 0) l,
			LATERAL (SELECT count(*) AS n FROM pg_locks WHERE l.given AND locktype = 'advisory' AND granted AND pid = pg_backend_pid()) held
		WHERE l.given
	UNION ALL SELECT 'identity', '', 0, current_database()::text
	UNION ALL SELECT 'table', '', 0, CASE WHEN relkind NOT IN ('r', 'p') THEN 'is no table'
			WHEN relpersistence = 'u' THEN 'is unlogged: a crash would empty it'
			WHEN relpersistence = 't' THEN 'is temporary: nobody else can see it' END
		FROM pg_class WHERE oid = to_regclass(quote_ident(?))
	UNION ALL SELECT 'schema', '', 0, n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = to_regclass(quote_ident(?))
	UNION ALL SELECT 'column', '', 0, attname::text FROM pg_attribute
		WHERE attrelid = to_regclass(quote_ident(?)) AND attnum > 0 AND NOT attisdropped
	UNION ALL SELECT 'key', i.relname::text, k.n::int, a.attname::text FROM pg_index x
		JOIN pg_class i ON i.oid = x.indexrelid
		CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY k(attnum, n)
		JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
		WHERE x.indrelid = to_regclass(quote_ident(?)) AND x.indisunique AND x.indisvalid
			AND x.indpred IS NULL AND x.indexprs IS NULL AND k.n <= x.indnkeyatts`

// identityPostgres is the database's name alone. The server's address depends on the way that leads
// to it, and the schema on the search path.
func identityPostgres(name string) (string, error) { return "postgres:" + name, nil }

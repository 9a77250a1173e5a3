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

// Sight is what one look at a database shows, of a table and of all around it.
type Sight struct {
	// Identity names the database: equal for all handles on one database. Databases
	// that cannot be told apart share an identity.
	Identity string
	// Schema is the one in which the table was found; "" where a table's name needs none.
	Schema string
	// Columns are the table's, in lower case; none where there is no such table.
	Columns []string
	// Keys are the columns of the table's unique, unconditional indexes, in lower case.
	Keys [][]string
	// UnfitSession and UnfitTable say what keeps elections from working, as the end of a
	// sentence that begins with the session's setting, or with the table; "" for nothing.
	UnfitSession, UnfitTable string
}

// Kinds of the rows of a look: (kind, name, place, value), in any order but that the
// session's come first.
const (
	sightSession  = "session"
	sightIdentity = "identity"
	sightTable    = "table"
	sightSchema   = "schema"
	sightColumn   = "column"
	sightKey      = "key" // name is the index's, place that of the column
)

// Look asks for all that must be known of a database to open it, and of the table of that
// name, in one statement: links may be slow. (Of a session that is unfit it may see no
// more than that.)
func (d *Dialect) Look(ctx context.Context, q Queryer, table string) (s Sight, err error) {
	args := slices.Repeat([]any{table}, strings.Count(d.look, "?"))
	query, args := d.Fresh(d.look, args...)
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

// explainLook adds what the server does not say.
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

// lookSQLite asks for the names of the table of this file.
const lookSQLite = `SELECT 'identity' AS kind, '' AS name, 0 AS place, file AS value FROM pragma_database_list WHERE name = 'main'
	UNION ALL SELECT 'session', '', 0, 'journal_mode must not be OFF: else a transaction that fails is not undone'
		FROM pragma_journal_mode WHERE journal_mode = 'off'
	UNION ALL SELECT 'column', '', 0, name FROM pragma_table_info(?, 'main')
	UNION ALL SELECT 'key', l.name, i.seqno + 1, i.name FROM pragma_index_list(?, 'main') l, pragma_index_info(l.name, 'main') i
		WHERE l."unique" = 1 AND l.partial = 0 AND i.name IS NOT NULL`

// identitySQLite is the file's path without symbolic links. In-memory databases
// have no name that SQL could read: they share one, so that a reign in one of
// them may be held against another, but is never overlooked.
func identitySQLite(file string) (string, error) {
	if file == "" {
		return MemoryIdentity(""), nil
	}
	path, err := filepath.EvalSymlinks(file)
	if err != nil { // moved or deleted since it was opened: the name it had must do
		path = file
	}
	return "sqlite:" + path, nil
}

// lookMySQL adds settings of a session that are unfit. All values are binary: so none
// is converted on its way.
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
		// A prefix of a column, or an expression instead of one, is no key of ours.
		`UNION ALL SELECT 'key', c.index_name, c.seq_in_index, CAST(c.column_name AS BINARY) FROM information_schema.statistics c` + mysqlThisTable +
		`AND c.non_unique = 0 AND c.sub_part IS NULL AND c.column_name IS NOT NULL`
}

// mysqlThisTable picks the table of this schema that the argument names, byte
// for byte unless the server folds the case of names.
const mysqlThisTable = ` JOIN (SELECT CONVERT(? USING utf8mb4) AS wanted) a
	ON c.table_schema = DATABASE() AND IF(@@lower_case_table_names = 0,
		CAST(c.table_name AS BINARY) = CAST(a.wanted AS BINARY), LOWER(c.table_name) = LOWER(a.wanted)) `

// identityMySQL is the schema's name alone. Nothing else is the same for every
// handle: servers behind one address, or after a failover, have names and ids of
// their own.
func identityMySQL(schema string) (string, error) {
	if schema == "" {
		return "", errors.New("the connection names no database")
	}
	return "mysql:" + strings.ToLower(schema), nil
}

// lookPostgres takes the table that the bare name stands for, in whichever schema. A
// relative may call itself PostgreSQL: so it takes a lock as the gate does, and asks
// whether it has it.
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

// identityPostgres is the database's name alone: the server's address differs by
// the way that leads to it, and the schema by the search path.
func identityPostgres(name string) (string, error) { return "postgres:" + name, nil }

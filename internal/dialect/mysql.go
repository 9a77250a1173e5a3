package dialect

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	nameMariaDB = "MariaDB"
	nameMySQL   = "MySQL"
)

// MariaDB describes MariaDB from 10.3 on, as a single server or with replicas.
func MariaDB() *Dialect {
	d := MySQL()
	d.Name, d.unsure = nameMariaDB, false
	// One second is the shortest bound that the server accepts. A renewal waits that long only if
	// the process that holds the row has died.
	d.BoundedWrite = "SET STATEMENT innodb_lock_wait_timeout=1 FOR "
	d.written = writtenMariaDB
	d.BoundedDDL = "SET STATEMENT lock_wait_timeout=1 FOR "
	d.fence = func(_ context.Context, conn *sql.Conn, _ string) (Fence, error) {
		return &mysqlFence{conn: conn, compound: true}, nil
	}
	d.prepare = prepareMariaDB
	d.transact = transactMariaDB
	d.waitMySQL(mysqlWaitBelow("long_query_time", "max_statement_time"))
	d.Examination = examinationMaria()
	return d
}

// MySQL describes MySQL from 8.0 on. It was written from the documentation. The tests run it on
// MariaDB only.
func MySQL() *Dialect {
	d := &Dialect{
		Name:          nameMySQL,
		MaxIdentifier: 64 * utf8.UTFMax, // checkName counts characters
		// Binary strings: no collation of the server's can make two IDs equal.
		Types: Types{
			Integer: "bigint", Text: "varbinary(255)", Name: "varbinary(191)",
			Long: "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
		},
		// ON DUPLICATE KEY UPDATE would count a row if the driver asks for found rows instead of
		// changed ones. IGNORE also ignores other errors, but the library's values do not cause
		// them.
		InsertNew: "INSERT IGNORE INTO",
		Isolation: sql.LevelReadCommitted,
		// Other storage engines have no row locks and no rollback.
		TableOptions: " ENGINE=InnoDB",
		KeysInTable:  true,
		look:         lookMySQL(""),
		unsure:       true,
		inlineReads:  true,
		quote:        "`",
		checkName:    checkMySQLName,
		placeholder:  func(int) string { return "?" },
		byteEqual:    byteEqualMySQL,
		classify:     classifyMySQL,
		rolledBack:   rolledBackMySQL,
		identity:     identityMySQL,
		fence: func(_ context.Context, conn *sql.Conn, _ string) (Fence, error) {
			return &mysqlFence{conn: conn}, nil
		},
		hold:        func(ctx context.Context, tx *sql.Tx, c Claim) (bool, error) { return holds(ctx, tx, lockMySQL(c)) },
		Examination: examinationOracle(),
	}
	d.waitMySQL(mysqlWaitBelow("long_query_time"))
	return d
}

// writtenMariaDB compares each value with what the session has stored for it: a session without
// strict mode may have changed the value. This works because a later assignment of a statement
// reads what an earlier one has stored. (With SIMULTANEOUS_ASSIGNMENT it does not: then only the
// session's own mode guards the values.) If a value has changed, the expression becomes a sum that
// has no room in 64 bits, which is an error in every mode.
//
// No statement of the library changes sql_mode, not even for its own length. The server's answer to
// such a statement would report the escape mode of that moment. Drivers that write parameters into
// a statement's text go by the last answer.
func writtenMariaDB(id string, number int64, texts []Text) (expression string, args []any) {
	args = []any{number}
	same := make([]string, len(texts))
	for i, text := range texts {
		value := "CONVERT(? USING utf8mb4)"
		if text.Bytes {
			value = "?"
		}
		same[i], args = byteEqualMySQL(text.Column, value), append(args, text.Value)
	}
	return "? + IF(" + strings.Join(same, " AND ") +
		" OR INSTR(@@sql_mode, 'SIMULTANEOUS_ASSIGNMENT'), 0, 18446744073709551615 + " + id + ")", args
}

// NoRoom reports whether err says that a column cannot hold a value unchanged, see Written.
func NoRoom(err error) bool {
	number, _ := mysqlNumber(err)
	return number == mysqlOutOfRange
}

const (
	mysqlOutOfRange = 1690
	mysqlResource   = 1226 // the account has reached one of its limits
)

// byteEqualMySQL converts the column: in a table of an older version it may have another character
// set.
func byteEqualMySQL(column, arg string) string {
	return "CAST(CONVERT(" + column + " USING utf8mb4) AS BINARY) = CAST(" + arg + " AS BINARY)"
}

func checkMySQLName(name string) error {
	const maxCharacters = 64
	n := 0
	for _, r := range name {
		if n++; r > 0xffff {
			return fmt.Errorf("must not contain %q on MySQL or MariaDB", r)
		}
	}
	switch {
	case n > maxCharacters:
		return fmt.Errorf("must be at most %d characters on MySQL or MariaDB, has %d", maxCharacters, n)
	case strings.HasSuffix(name, " "):
		return errors.New("must not end in a space on MySQL or MariaDB")
	}
	return nil
}

func classifyMySQL(err error) Class {
	number, ok := mysqlNumber(err)
	if !ok {
		return Unknown
	}
	if number == mysqlResource && strings.Contains(err.Error(), "_per_hour") {
		return Fatal // until the hour is over, each attempt fails
	}
	switch number {
	case 1062: // duplicate key
		return Conflict
	case 1213, 1205, // deadlock, lock wait timeout
		1020,       // the record changed since the snapshot (innodb_snapshot_isolation)
		3572, 3101, // NOWAIT; rolled back during commit by group replication
		1040, 1203, mysqlResource, // too many connections: of all, of the user, of the account
		9007, 8002, 8022, 8028, 9001, 9002, 9003, 9004, 9005: // TiDB behind a proxy that hides it
		return Retry
	case 3100, 1180, 1053, 1927, 1317, 2006, 2013, 1969, 3024, 8501: // died or was killed under way
		return Ambiguous
	case 1290, 1836, 1792, 1047: // read-only, or no part of the cluster
		return Elsewhere
	case 1146, 1054, 1142, 1143, 1044, 1045, 1064, 1235, 1050, 1060, 1061, 1048, 1364, 1406, mysqlOutOfRange, 1227, 4031:
		return Fatal
	}
	return Unknown
}

func rolledBackMySQL(err error) bool {
	switch number, _ := mysqlNumber(err); number {
	case 1213, 3101, 1020,
		1290, 1836: // the server became read-only, which it checks before it commits
		return true
	}
	return false
}

// seconds is d in whole seconds, rounded up and at least one.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64(max(1, math.Ceil(d.Seconds()))), 10)
}

// prepareMariaDB bounds how long a change of leader holds others up if its process stops half-way.
// The settings outlive the transaction, so they are restored.
func prepareMariaDB(ctx context.Context, conn *sql.Conn, wait time.Duration) (func() error, error) {
	bounds := append([]string{"innodb_lock_wait_timeout"}, mariaIdle...)
	_, err := conn.ExecContext(ctx, keep(bounds, seconds(wait)))
	return func() error { return restore(conn, err != nil, putBack(bounds, seconds(wait))) }, err
}

// mysqlLiteral writes a value into a statement's text. The guard's statements are sent as one text.
// With parameters each would be prepared first, which costs one more round trip, and a compound
// statement takes no parameters.
func mysqlLiteral(arg any) string {
	if s, ok := arg.(string); ok {
		return "x'" + hex.EncodeToString([]byte(s)) + "'"
	}
	return fmt.Sprint(arg)
}

// mysqlTextLiteral is mysqlLiteral for a column that holds text, in any character set.
func mysqlTextLiteral(arg any) string {
	if _, ok := arg.(string); ok {
		return "_utf8mb4 " + mysqlLiteral(arg)
	}
	return mysqlLiteral(arg)
}

// inline replaces the question marks of query by the arguments. Query must hold no other question
// marks. So it must not hold the name of a table, which may contain some.
func inline(query string, args []any, literal func(any) string) string {
	for _, arg := range args {
		query = strings.Replace(query, "?", literal(arg), 1)
	}
	return query
}

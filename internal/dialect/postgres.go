package dialect

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PostgreSQL describes PostgreSQL through pgx.
func PostgreSQL() *Dialect {
	return &Dialect{
		Name: "PostgreSQL",
		// The server silently cuts longer names short, and then finds another table.
		MaxIdentifier: 63,
		Types:         Types{Integer: "bigint", Text: `text COLLATE "C"`, Name: `text COLLATE "C"`, Long: "text"},
		InsertNew:     "INSERT INTO",
		SkipExisting:  "ON CONFLICT DO NOTHING",
		Isolation:     sql.LevelReadCommitted,
		KeysInTable:   true,
		// While DDL waits for a reader of the table, all renewals wait behind the DDL.
		BoundedDDL:            "SELECT set_config('lock_timeout', '500', true); ",
		look:                  lookPostgres,
		UpdateMany:            updateManyPostgres,
		Examination:           examinationPostgres(),
		NotifiesInTransaction: true, // in gatePostgres and lockPostgres
		quote:                 `"`,
		placeholder:           func(n int) string { return "$" + strconv.Itoa(n) },
		byteEqual:             func(column, arg string) string { return column + `::text COLLATE "C" = ` + arg },
		classify:              classifyPostgres,
		rolledBack:            rolledBackPostgres,
		identity:              identityPostgres,
		fence:                 fencePostgres,
		hold:                  holdRowPostgres,
		bounds:                boundsPostgres,
		gate:                  gatePostgres,
		transact:              transactPostgres,
		listen:                listenPostgres,
	}
}

// postgresCode returns the SQLSTATE of a server's error, from pgx, lib/pq or any other driver whose
// errors have the method SQLState.
func postgresCode(err error) (code string, ok bool) {
	var e interface{ SQLState() string }
	if !errors.As(err, &e) {
		return "", false
	}
	return e.SQLState(), true
}

func classifyPostgres(err error) Class {
	code, ok := postgresCode(err)
	if !ok {
		return Unknown
	}
	switch code {
	case "23505": // in DDL: another process has made the change, see sqldb.Ensure
		return Conflict
	case "40001", "40P01", // serialization failure, deadlock
		"55P03",          // lock_timeout
		"57P03", "53300": // starting up, too many connections
		return Retry
	case "57014", // statement_timeout, or canceled
		"25P03": // idle in the transaction for too long: rolled back
		return Cut
	case "57P01", "57P02", "57P04", "57P05", "25P04", "40003":
		return Ambiguous
	case "25006": // read-only, or a standby
		return Elsewhere
	case "0A000", "26000":
		// Also the error of a statement that the driver has prepared, if the table has been altered
		// since. The driver then forgets the statement.
		return Stale
	}
	switch code[:min(2, len(code))] {
	case "08":
		return Ambiguous
	case "22", "23", "25", "28", "2B", "3D", "3F", "42":
		return Fatal
	}
	return Unknown
}

// rolledBackPostgres believes every ERROR. A constraint, a trigger or a timeout that raises one at
// COMMIT does so before the server writes the commit. After that the server cannot go back: it goes
// down instead of raising an ERROR.
//
// COMMIT of an aborted transaction "succeeds" by rolling back, which pgx turns into an error.
func rolledBackPostgres(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	switch code, ok := postgresCode(err); {
	case !ok || len(code) != 5:
		return false
	case code == "25P03": // it ends only a session that waits for its client: no COMMIT had come
		return true
	case code == "40003" || code[:2] == "08": // said by something between the server and this process
		return false
	default:
		return !endsSession(err, code)
	}
}

// endsSession reports whether err may have come with the end of its session. Such an error says
// nothing about a COMMIT: a timer (25P04) or an order to end (57P01) that comes during the COMMIT
// takes effect right after it.
func endsSession(err error, code string) bool {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		return cmp.Or(e.SeverityUnlocalized, e.Severity) != "ERROR"
	}
	// Other drivers tell the severity in the server's language, or not at all.
	var e interface{ Fatal() bool }
	if errors.As(err, &e) && e.Fatal() {
		return true
	}
	switch code[:2] {
	case "53", "58", "XX": // a PANIC if they concern the write-ahead log
		return true
	}
	return code[:3] == "57P" || code == "25P04"
}

// gateKey is an expression for the key of the advisory lock that is the gate of name. It is made of
// the table's OID, which is the same on every search path. If a lock of the program's own has the
// same key, one of the two waits for the other, no more.
func gateKey(table, name string) string {
	sum := sha256.Sum256([]byte("gate\x00" + name))
	key := strconv.FormatInt(int64(binary.BigEndian.Uint64(sum[:])), 10)
	return "(" + key + ")::bigint # " + postgresLiteral(table) + "::regclass::oid::bigint"
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

// gatePostgres takes the gate exclusively: guarded transactions that come later queue behind it.
// With the row lock alone, overlapping guarded transactions would hold a share in turns, and the
// change would never get the lock. The settings end with the transaction.
//
// The same statement notifies the listeners, which saves a round trip. The server delivers the
// notification with the COMMIT, and only then.
func gatePostgres(ctx context.Context, tx *sql.Tx, table, name string, wait time.Duration) error {
	_, err := tx.ExecContext(ctx, "SELECT "+boundsPostgres(wait)+", pg_advisory_xact_lock("+gateKey(table, name)+"), "+
		postgresNotify(Subject{Table: table, Name: name}.Key()))
	return err
}

// postgresLiteral writes a value into a statement's text, whatever the setting of
// standard_conforming_strings. The server converts the value as it would convert a parameter. If
// the driver sends bytes in another encoding than the client's, the rows hold the outcome of that
// conversion, and the literal must match it.
func postgresLiteral(arg any) string {
	if s, ok := arg.(string); ok {
		return "convert_from(decode('" + hex.EncodeToString([]byte(s)) + "', 'hex'), pg_client_encoding())"
	}
	return fmt.Sprint(arg)
}

func updateManyPostgres(table string, c Columns) string {
	same := "t." + c.Name + " = r." + c.Name + ` COLLATE "C" AND t.` + c.Place + " = r." + c.Place
	return ", free AS (SELECT t." + c.ID + " FROM " + table + " t JOIN renewal r ON " + same + " FOR UPDATE OF t SKIP LOCKED)" +
		" UPDATE " + table + " t SET " + c.assignments() + " FROM renewal r, free WHERE t." + c.ID + " = free." + c.ID + " AND " + same +
		" AND t." + c.Version + " = r.was RETURNING t." + c.Name + ", t." + c.Place
}

func boundsPostgres(wait time.Duration) string {
	ms := milliseconds(wait)
	return "set_config('lock_timeout', '" + ms + "', true), set_config('idle_in_transaction_session_timeout', '" + ms + "', true)"
}

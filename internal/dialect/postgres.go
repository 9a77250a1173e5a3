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
		// The server cuts longer names short without a word, and then finds
		// another's table.
		MaxIdentifier: 63,
		Types:         Types{Integer: "bigint", Text: `text COLLATE "C"`, Name: `text COLLATE "C"`, Long: "text"},
		InsertNew:     "INSERT INTO",
		SkipExisting:  "ON CONFLICT DO NOTHING",
		Isolation:     sql.LevelReadCommitted,
		KeysInTable:   true,
		// A reader of the table must not make everybody's renewals wait behind us.
		BoundedDDL:  "SELECT set_config('lock_timeout', '500', true); ",
		look:        lookPostgres,
		UpdateMany:  updateManyPostgres,
		Examination: examinationPostgres(),
		RingsItself: true, // in gatePostgres and lockPostgres
		quote:       `"`,
		placeholder: func(n int) string { return "$" + strconv.Itoa(n) },
		byteEqual:   func(column, arg string) string { return column + `::text COLLATE "C" = ` + arg },
		classify:    classifyPostgres,
		rolledBack:  rolledBackPostgres,
		identity:    identityPostgres,
		fence:       fencePostgres,
		hold:        holdRowPostgres,
		bounds:      boundsPostgres,
		gate:        gatePostgres,
		transact:    transactPostgres,
		listen:      listenPostgres,
	}
}

// postgresCode returns the SQLSTATE of an error of the server's, from pgx, lib/pq, or
// whatever other driver's errors tell theirs.
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
	case "23505": // in DDL it is a rival's success, see sqldb.Ensure
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
		// Also of a prepared statement of the driver's, when the table has been
		// altered since; the driver forgets it then.
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

// rolledBackPostgres believes every ERROR: whatever raises one at COMMIT, a constraint, a
// trigger or a timeout, does so before the server writes the commit. After that the server
// has no way back, and would rather go down.
//
// COMMIT of an aborted transaction "succeeds" by rolling back, which pgx turns into an error.
func rolledBackPostgres(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	switch code, ok := postgresCode(err); {
	case !ok || len(code) != 5:
		return false
	case code == "25P03": // it ends the session, but only one that waits for its client: no COMMIT had come
		return true
	case code == "40003" || code[:2] == "08": // the word of something between the server and us
		return false
	default:
		return !endsSession(err, code)
	}
}

// endsSession reports whether err may have come with the end of its session. That says
// nothing of a COMMIT: a timer (25P04) or an order to end (57P01) that comes while the server
// commits takes effect as soon as it has.
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
	case "53", "58", "XX": // a PANIC when they concern the log
		return true
	}
	return code[:3] == "57P" || code == "25P04"
}

// gateKey is an expression for the key of the advisory lock that is the gate of name, made of
// the table's identity, which is the same whatever path leads to it. A program's
// own lock that happens to have it makes one wait for the other, no more.
func gateKey(table, name string) string {
	sum := sha256.Sum256([]byte("gate\x00" + name))
	key := strconv.FormatInt(int64(binary.BigEndian.Uint64(sum[:])), 10)
	return "(" + key + ")::bigint # " + postgresLiteral(table) + "::regclass::oid::bigint"
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

// gatePostgres takes the gate for itself: guarded transactions that come later
// queue behind. Of the row lock alone they would hold a share in turns, and the
// change would never get it. The settings end with the transaction.
//
// It rings here already, at no round trip more: the server delivers with the
// COMMIT, and only then.
func gatePostgres(ctx context.Context, tx *sql.Tx, table, name string, wait time.Duration) error {
	_, err := tx.ExecContext(ctx, "SELECT "+boundsPostgres(wait)+", pg_advisory_xact_lock("+gateKey(table, name)+"), "+
		postgresNotify(Subject{Table: table, Name: name}.Key()))
	return err
}

// postgresLiteral writes a value into a statement's text, whatever the setting
// of standard_conforming_strings. It is converted as a parameter would be: where the
// client's encoding is not that of the bytes that the driver sends, the rows hold what came of it.
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

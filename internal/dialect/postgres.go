package dialect

import (
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
		RingsItself: true, // in gatePostgres
		quote:       `"`,
		placeholder: func(n int) string { return "$" + strconv.Itoa(n) },
		byteEqual:   func(column, arg string) string { return column + `::text COLLATE "C" = ` + arg },
		classify:    classifyPostgres,
		rolledBack:  rolledBackPostgres,
		identity:    identityPostgres,
		fence:       fencePostgres,
		bounds:      boundsPostgres,
		gate:        gatePostgres,
		transact:    transactPostgres,
		listen:      listenPostgres,
	}
}

func postgresCode(err error) (code string, ok bool) {
	e := (*pgconn.PgError)(nil)
	if !errors.As(err, &e) {
		return "", false
	}
	return e.Code, true
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
		"57014",          // canceled
		"25P03", "25P04", // idle in the transaction, or in it, for too long: rolled back
		"57P03", "53300": // starting up, too many connections
		return Retry
	case "57P01", "57P02", "40003":
		return Ambiguous
	case "25006": // read-only, or a standby
		return Unusable
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

// rolledBackPostgres: COMMIT of an aborted transaction "succeeds" by rolling
// back, which pgx turns into an error.
func rolledBackPostgres(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	code, _ := postgresCode(err)
	switch code {
	case "40001", "40P01", "25P02", "25P03", "25P04":
		return true
	}
	return len(code) == 5 && code[:2] == "23" // a constraint checked at COMMIT
}

// gateKey is an expression for the key of the election's advisory lock, made of
// the table's identity, which is the same whatever path leads to it. A program's
// own lock that happens to have it makes one wait for the other, no more.
func gateKey(table, election string) string {
	sum := sha256.Sum256([]byte("election gate\x00" + election))
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
func gatePostgres(ctx context.Context, tx *sql.Tx, table, election string, wait time.Duration) error {
	_, err := tx.ExecContext(ctx, "SELECT "+boundsPostgres(wait)+", pg_advisory_xact_lock("+gateKey(table, election)+"), "+
		postgresNotify(Subject{Table: table, Election: election}.Key()))
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

func updateManyPostgres(table string) string {
	const same = `t.election = r.election COLLATE "C" AND t.slot = r.slot`
	return `, free AS (SELECT t.id FROM ` + table + ` t JOIN renewal r ON ` + same + ` FOR UPDATE OF t SKIP LOCKED)
		UPDATE ` + table + ` t SET leader_id = r.leader_id, record = r.record, version = r.version
		FROM renewal r, free WHERE t.id = free.id AND ` + same + ` AND t.version = r.was RETURNING t.election, t.slot`
}

func boundsPostgres(wait time.Duration) string {
	ms := milliseconds(wait)
	return "set_config('lock_timeout', '" + ms + "', true), set_config('idle_in_transaction_session_timeout', '" + ms + "', true)"
}

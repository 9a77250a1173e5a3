package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// mysqlFence keeps a guarded transaction whole on the MySQL family, where a
// deadlock, DDL, COMMIT or AUTOCOMMIT inside an ordinary transaction ends it and
// what follows is committed by itself. Inside the branch of an XA transaction the
// server refuses every statement that would commit, and after a deadlock every
// statement but XA ROLLBACK. The branch has a random name that only the fence
// knows, and is never prepared: it ends with the connection.
//
// While it is being ended the session's later transactions are read-only, so that
// a statement of a goroutine that outlived the guarded function is refused, too (unless it asks for READ
// WRITE).
//
// The guard is a shared lock on the row, which whoever changes it
// writes. InnoDB's locks queue in order, so that it is not starved.
type mysqlFence struct {
	conn     *sql.Conn
	compound bool // the server runs several statements in one round trip, and bounds waits by the session
	branch   string
	timeout  string // in seconds
	readOnly bool   // the session's transactions were, where it is not compound
}

const (
	mysqlReadOnly  = "SET SESSION TRANSACTION READ ONLY"
	mysqlReadWrite = "SET SESSION TRANSACTION READ WRITE"
)

// mariaIdle are the settings, in seconds, that bound a client which says nothing
// in a transaction; mariaBusy those that bound one for which a statement waits, or
// which takes no more of a result.
var (
	mariaIdle = []string{"idle_transaction_timeout", "idle_write_transaction_timeout", "idle_readonly_transaction_timeout"}
	mariaBusy = []string{"max_statement_time", "net_write_timeout"}
	mariaAll  = append(mariaBusy, mariaIdle...)
	// mariaModes are settings that a fence changes, or the guarded function may.
	mariaModes = []string{"tx_read_only", "autocommit"}
)

// keep remembers settings in the session's variables, and sets those of bounds to
// seconds that are longer.
func keep(bounds []string, seconds string, others ...string) string {
	var kept, set []string
	for _, name := range slices.Concat(bounds, others) {
		kept = append(kept, "@election_"+name+" = @@"+name)
	}
	for _, name := range bounds {
		set = append(set, fmt.Sprintf("SESSION %[1]s = IF(@@%[1]s > 0 AND @@%[1]s < %[2]s, @@%[1]s, %[2]s)", name, seconds))
	}
	return "SET " + strings.Join(append(kept, set...), ", ")
}

// putBack undoes keep, and forgets. A bound that is not as keep has set it was set by
// the guarded function since: it stays. If keep was never sent, its variables are NULL, and
// COALESCE leaves the setting alone: without it, SET would take such a NULL for 0.
func putBack(bounds []string, seconds string, others ...string) string {
	var set, forget []string
	for _, name := range bounds {
		set = append(set, fmt.Sprintf("SESSION %[1]s = IF(@@%[1]s = %[2]s, COALESCE(@election_%[1]s, @@%[1]s), @@%[1]s)", name, seconds))
	}
	for _, name := range others {
		set = append(set, fmt.Sprintf("SESSION %[1]s = COALESCE(@election_%[1]s, @@%[1]s)", name))
	}
	for _, name := range slices.Concat(bounds, others) {
		forget = append(forget, "@election_"+name+" = NULL")
	}
	return "SET " + strings.Join(append(set, forget...), ", ")
}

func (f *mysqlFence) Begin(ctx context.Context) (*Txn, error) { return beginTxn(ctx, f.conn) }

func (f *mysqlFence) Hold(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	branch := fmt.Sprintf("'election_%x'", rand.Uint64())
	f.timeout = seconds(c.Timeout)
	guard := lockMySQL(c)
	if f.compound {
		f.branch = branch
		return holds(ctx, tx, "BEGIN NOT ATOMIC COMMIT; "+keep(mariaAll, f.timeout, mariaModes...)+
			"; XA START "+f.branch+"; SET STATEMENT innodb_lock_wait_timeout=1 FOR "+guard+"; END")
	}
	// Its name depends on the server.
	const readOnly = "SHOW SESSION VARIABLES WHERE variable_name IN ('transaction_read_only', 'tx_read_only') AND value = 'ON'"
	if _, err := tx.ExecContext(ctx, "COMMIT"); err != nil {
		return false, err
	}
	if f.readOnly, err = holds(ctx, tx, readOnly); err != nil {
		return false, err
	}
	f.branch = branch // from here on there is something to end, and to restore
	if _, err := tx.ExecContext(ctx, "XA START "+f.branch); err != nil {
		return false, err
	}
	return holds(ctx, tx, guard)
}

// lockMySQL selects and locks the row if it holds the claim.
func lockMySQL(c Claim) string {
	return "SELECT 1 FROM " + c.Table + " WHERE " + inline(c.Where, c.Args, mysqlLiteral) + " LOCK IN SHARE MODE"
}

// holds reports whether query, and all that comes with it, returns a row.
func holds(ctx context.Context, tx *sql.Tx, query string) (held bool, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
			held = true
		}
	}
	return held && rows.Err() == nil, rows.Err()
}

// Commit commits the branch. The end of the transaction that database/sql
// knows of then finds nothing to do; if the connection breaks during that one,
// Lift will notice.
func (f *mysqlFence) Commit(ctx context.Context, tx *Txn) error {
	statements := []string{mysqlReadOnly, "XA END " + f.branch, "XA COMMIT " + f.branch + " ONE PHASE"}
	if f.compound {
		statements = []string{"BEGIN NOT ATOMIC " + strings.Join(statements, "; ") + "; END"}
	}
	for i, statement := range statements {
		_, err := tx.ExecContext(ctx, statement)
		switch {
		case err == nil:
		case errors.Is(err, sql.ErrTxDone) || branchIsOver(err):
			return ErrEnded
		case i < len(statements)-1 || errors.Is(err, driver.ErrBadConn): // it was not sent
			return err
		default:
			return uncertain(err, rolledBackMySQL)
		}
	}
	return nil
}

// branchIsOver reports whether err says that no branch of this name is active:
// it was rolled back, or is not there.
func branchIsOver(err error) bool {
	switch number, _ := mysqlNumber(err); number {
	case 1397, 1399, 1402, 1613, 1614:
		return true
	}
	return false
}

// Rollback takes errors of its own statements for a branch that is over: if one
// is left all the same, Lift closes the connection, and the server ends it.
func (f *mysqlFence) Rollback(ctx context.Context, tx *Txn) error {
	statements := []string{mysqlReadOnly, "XA END " + f.branch, "XA ROLLBACK " + f.branch}
	switch {
	case f.branch == "":
		statements = nil
	case f.compound:
		statements = []string{"BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; " +
			strings.Join(statements, "; ") + "; END"}
	}
	for _, statement := range statements {
		_, _ = tx.ExecContext(ctx, statement)
	}
	return tx.Rollback()
}

func (f *mysqlFence) Ended() bool { return false }

// Lift begins with a COMMIT, which fails inside a branch.
func (f *mysqlFence) Lift(discard bool) error {
	switch {
	case f.branch == "":
		return restore(f.conn, discard)
	case f.compound:
		return restore(f.conn, discard, "BEGIN NOT ATOMIC COMMIT AND NO CHAIN NO RELEASE; "+putBack(mariaAll, f.timeout, mariaModes...)+"; END")
	case f.readOnly:
		return restore(f.conn, discard, "COMMIT AND NO CHAIN NO RELEASE", mysqlReadOnly)
	}
	return restore(f.conn, discard, "COMMIT AND NO CHAIN NO RELEASE", mysqlReadWrite)
}

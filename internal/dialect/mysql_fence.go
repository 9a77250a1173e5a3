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

// mysqlFence keeps a guarded transaction whole on the MySQL family. There a deadlock, DDL, COMMIT
// or a change of autocommit ends an ordinary transaction, and each later statement is committed by
// itself. So the guarded transaction is the branch of an XA transaction. Inside a branch the server
// refuses every statement that would commit. After a deadlock it refuses every statement but XA
// ROLLBACK. The branch has a random name that only the fence knows. It is never prepared, so it
// ends with the connection.
//
// While the fence ends the branch, the session's later transactions are read-only. So the server
// also refuses a statement of a goroutine that outlived the guarded function (unless the goroutine
// asks for READ WRITE).
//
// The guard is a shared lock on the row. A transaction that changes the row must wait for the lock.
// InnoDB's locks queue in order, so later guarded transactions do not starve it.
type mysqlFence struct {
	conn     *sql.Conn
	compound bool // MariaDB: several statements take one round trip, and the session bounds waits
	branch   string
	timeout  string // in seconds
	readOnly bool   // the session's transactions were read-only before; set only if not compound
}

const (
	mysqlReadOnly  = "SET SESSION TRANSACTION READ ONLY"
	mysqlReadWrite = "SET SESSION TRANSACTION READ WRITE"
)

// mariaIdle are settings, in seconds, that bound a client which says nothing in a transaction.
// mariaBusy are settings that bound a client whose statement waits, or which reads no more of a
// result.
var (
	mariaIdle = []string{"idle_transaction_timeout", "idle_write_transaction_timeout", "idle_readonly_transaction_timeout"}
	mariaBusy = []string{"max_statement_time", "net_write_timeout"}
	mariaAll  = append(mariaBusy, mariaIdle...)
	// mariaModes are settings that a fence or the guarded function may change.
	mariaModes = []string{"tx_read_only", "autocommit"}
)

// keep returns a SET statement. It saves all these settings in variables of the session, and lowers
// each of bounds to seconds if it is higher or off.
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

// putBack returns a SET statement that undoes keep and clears its variables. If a bound is not as
// keep has set it, the guarded function has set it since: it stays. If keep was never sent, its
// variables are NULL. COALESCE then leaves the setting alone, because SET would take the NULL for
// 0.
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
	// The variable's name depends on the server.
	const readOnly = "SHOW SESSION VARIABLES WHERE variable_name IN ('transaction_read_only', 'tx_read_only') AND value = 'ON'"
	if _, err := tx.ExecContext(ctx, "COMMIT"); err != nil {
		return false, err
	}
	if f.readOnly, err = holds(ctx, tx, readOnly); err != nil {
		return false, err
	}
	f.branch = branch // from here on Rollback has something to end, and Lift to restore
	if _, err := tx.ExecContext(ctx, "XA START "+f.branch); err != nil {
		return false, err
	}
	return holds(ctx, tx, guard)
}

// lockMySQL selects and locks the row if it holds the claim.
func lockMySQL(c Claim) string {
	return "SELECT 1 FROM " + c.Table + " WHERE " + inline(c.Where, c.Args, mysqlLiteral) + " LOCK IN SHARE MODE"
}

// holds reports whether query returns a row, in any of its result sets.
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

// Commit commits the branch. To database/sql the transaction is still open; its end then finds
// nothing to do. If the connection breaks at that end, Lift will notice.
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

// Rollback ignores errors of its own statements: they mean that the branch is over. If it is not,
// Lift closes the connection, and the server ends the branch.
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

// Lift begins with a COMMIT. Inside a branch the COMMIT fails, and the connection is closed.
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

package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
)

// mysqlFence keeps a guarded transaction whole on the MySQL family, where a
// deadlock, DDL or a raw COMMIT inside it ends it and what follows would be
// committed by itself. A savepoint set after the guard, gone with the
// transaction, tells at the end whether it is still the same one. Meanwhile the
// session's later transactions are read-only, so that what follows is refused;
// and autocommit is off, because after a deadlock the server goes on as if in
// the old transaction, and would let one statement pass.
//
// The guard is a shared lock on the leader row, which the change of leader
// writes. InnoDB's locks queue in order, so that it is not starved.
type mysqlFence struct {
	conn      *sql.Conn
	compound  bool // the server runs several statements in one round trip
	savepoint string
	touched   bool // the session has settings of ours
}

const (
	mysqlReadOnly  = "SET SESSION TRANSACTION READ ONLY"
	mysqlReadWrite = "SET SESSION TRANSACTION READ WRITE"
	mysqlManual    = "SET SESSION autocommit = 0"
	mysqlAuto      = "SET SESSION autocommit = 1" // commits: only after a ROLLBACK
)

func (f *mysqlFence) Hold(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	f.savepoint = fmt.Sprintf("election_%x", rand.Uint64())
	f.touched = true
	guard := "SELECT 1 FROM " + c.Table + " WHERE " + inline(c.Where, c.Args, mysqlLiteral) + " LOCK IN SHARE MODE"
	if f.compound {
		idle := seconds(c.Timeout)
		return holds(ctx, tx, "BEGIN NOT ATOMIC "+
			"SET @election_idle = @@idle_transaction_timeout, SESSION idle_transaction_timeout ="+
			" IF(@@idle_transaction_timeout BETWEEN 1 AND "+idle+", @@idle_transaction_timeout, "+idle+"); "+
			mysqlReadOnly+"; "+mysqlManual+"; SET STATEMENT innodb_lock_wait_timeout=1 FOR "+guard+"; SAVEPOINT "+f.savepoint+"; END")
	}
	for _, statement := range []string{mysqlReadOnly, mysqlManual} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return false, err
		}
	}
	if held, err = holds(ctx, tx, guard); err == nil && held {
		_, err = tx.ExecContext(ctx, "SAVEPOINT "+f.savepoint)
	}
	return held && err == nil, err
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

func (f *mysqlFence) Permit(ctx context.Context, tx *sql.Tx) error {
	const noSuchSavepoint = 1305
	_, err := tx.ExecContext(ctx, "RELEASE SAVEPOINT "+f.savepoint)
	if number, _ := mysqlNumber(err); number == noSuchSavepoint || errors.Is(err, sql.ErrTxDone) {
		return ErrEnded
	}
	return err
}

func (f *mysqlFence) Ended() bool { return false }

func (f *mysqlFence) Lift(_, discard bool) error {
	switch {
	case !f.touched:
		return restore(f.conn, discard)
	case f.compound:
		return restore(f.conn, discard, "BEGIN NOT ATOMIC ROLLBACK; "+mysqlReadWrite+"; "+mysqlAuto+
			"; SET SESSION idle_transaction_timeout = @election_idle; END")
	}
	return restore(f.conn, discard, "ROLLBACK", mysqlReadWrite, mysqlAuto)
}

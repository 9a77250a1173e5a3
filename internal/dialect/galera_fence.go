package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"time"
)

// galeraFence keeps a guarded transaction whole on a Galera cluster, which has no XA
// (see mysqlFence). A conflict, a raw COMMIT or ROLLBACK, DDL and SET autocommit end
// the transaction, and what follows is another one. So there is a savepoint, of a
// random name, behind the guard: its release, in one statement with the COMMIT,
// fails in any other transaction. What follows an early end is not committed:
// autocommit is off, and the session's later transactions are read-only, which also
// makes the server refuse the DDL after its own implicit commit.
//
// The guard is a write, see [Galera]. It is the transaction's first statement but for
// a look at the gate, which is another transaction: so nothing that is read here is
// older than the guard.
type galeraFence struct {
	conn    *sql.Conn
	token   string // "" before Hold
	timeout string // in seconds
}

// gatePatience is how long a guarded transaction waits at the gate, and gatePause
// how long until it looks again. Whoever has found the gate closed by one and the
// same change for all that time opens it: that one has died, or waits for something
// else, and will close it again.
const (
	gatePatience = 500 * time.Millisecond
	gatePause    = 2 * time.Millisecond
)

// galeraModes are mariaModes and one more. A statement that opens a table anew (after FLUSH TABLES, a change of
// schema, or out of a small cache) reads the optimizer's statistics of it, in a transaction of its own, which takes
// the place of the session's meanwhile. An applier that comes to abort the session's does not find it then. It
// waits for its locks until innodb_lock_wait_timeout (50 s) before it tries again, and the node with it.
var galeraModes = append(slices.Clip(mariaModes), "use_stat_tables")

func (f *galeraFence) Begin(ctx context.Context) (*Txn, error) { return beginTxn(ctx, f.conn) }

func (f *galeraFence) Hold(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	f.token, f.timeout = newToken(), seconds(c.Timeout)
	if _, err := tx.ExecContext(ctx, "BEGIN NOT ATOMIC COMMIT; "+keep(mariaAll, f.timeout, galeraModes...)+
		"; SET SESSION autocommit = 0, SESSION use_stat_tables = 'NEVER'; "+mysqlReadOnly+"; END"); err != nil {
		return false, err
	}
	first := ""
	for deadline := time.Now().Add(gatePatience); ; {
		held, closed, err := f.enter(ctx, tx, c, "")
		if err != nil || closed == "" {
			return held, err
		}
		if first == "" {
			first = closed
		}
		if time.Now().After(deadline) {
			if closed == first {
				f.open(ctx, tx, c, closed)
			}
			held, _, err := f.enter(ctx, tx, c, closed)
			return held, err
		}
		if _, err := pause(ctx, gatePause, nil); err != nil {
			return false, err
		}
	}
}

// enter takes the guard unless the gate is closed, by another change than the one
// that is disregarded. The node has caught up with what was committed anywhere
// before: else it could refuse a leader of which it has not heard yet.
func (f *galeraFence) enter(ctx context.Context, tx *sql.Tx, c Claim, disregarded string) (held bool, closed string, err error) {
	rows, err := tx.QueryContext(ctx, "BEGIN NOT ATOMIC DECLARE closed TEXT; "+
		"SET STATEMENT wsrep_sync_wait=1 FOR SELECT MAX("+c.Mark+") INTO closed FROM "+c.Table+" WHERE "+inline(c.Gate, c.GateArgs, mysqlLiteral)+"; "+
		"COMMIT; "+
		"IF COALESCE(closed, '') IN ('', "+mysqlLiteral(disregarded)+") THEN START TRANSACTION READ WRITE; "+
		markGalera(c, f.token)+"; "+
		"IF ROW_COUNT() = 1 THEN SAVEPOINT "+f.savepoint()+"; SELECT ''; END IF; "+
		"ELSE SELECT closed; END IF; END")
	if err != nil {
		return false, "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
			if err := rows.Scan(&closed); err != nil {
				return false, "", err
			}
			held = closed == ""
		}
	}
	return held && rows.Err() == nil, closed, rows.Err()
}

// markGalera writes the row if it holds the claim.
func markGalera(c Claim, token string) string {
	return "SET STATEMENT innodb_lock_wait_timeout=1 FOR UPDATE " + c.Table + " SET " + c.Mark + " = " + mysqlLiteral(guardToken(token)) +
		" WHERE " + inline(c.Where, c.Args, mysqlLiteral)
}

// holdGalera passes the gate by: what it holds may end because of a change that has come later.
func holdGalera(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	return wrote(tx.ExecContext(ctx, markGalera(c, newToken())))
}

// open opens the gate that a change of leader has left closed. If that fails,
// others will try.
func (f *galeraFence) open(ctx context.Context, tx *sql.Tx, c Claim, closed string) {
	_, _ = tx.ExecContext(ctx, "BEGIN NOT ATOMIC START TRANSACTION READ WRITE; "+
		"SET STATEMENT innodb_lock_wait_timeout=1 FOR UPDATE "+c.Table+" SET "+c.Mark+" = '' WHERE "+inline(c.Gate, c.GateArgs, mysqlLiteral)+
		" AND "+c.Mark+" = "+mysqlLiteral(closed)+"; COMMIT; END")
}

func (f *galeraFence) savepoint() string { return "election_" + f.token }

// Commit commits the transaction that took the guard, in one statement with the
// check that it is still that one: a conflict cannot come between, and what a
// goroutine of the guarded function's sends cannot either.
func (f *galeraFence) Commit(ctx context.Context, tx *Txn) error {
	_, err := tx.ExecContext(ctx, "BEGIN NOT ATOMIC RELEASE SAVEPOINT "+f.savepoint()+"; COMMIT; END")
	const noSuchSavepoint = 1305
	switch number, _ := mysqlNumber(err); {
	case err == nil:
		return nil
	case number == noSuchSavepoint, errors.Is(err, sql.ErrTxDone):
		return ErrEnded
	case errors.Is(err, driver.ErrBadConn): // it was not sent
		return err
	}
	return uncertain(err, rolledBackMySQL)
}

// Rollback sends one that ends with ctx first: the driver's own does not.
func (f *galeraFence) Rollback(ctx context.Context, tx *Txn) error {
	_, _ = tx.ExecContext(ctx, "ROLLBACK")
	return tx.Rollback()
}

func (f *galeraFence) Ended() bool { return false }

// Lift begins with a ROLLBACK: to turn autocommit on commits.
func (f *galeraFence) Lift(discard bool) error {
	if f.token == "" {
		return restore(f.conn, discard)
	}
	return restore(f.conn, discard, "BEGIN NOT ATOMIC ROLLBACK; "+putBack(mariaAll, f.timeout, galeraModes...)+"; END")
}

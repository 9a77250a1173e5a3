package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"time"
)

// galeraFence keeps a guarded transaction whole on a Galera cluster, which has no XA (see
// mysqlFence). There a conflict, a raw COMMIT or ROLLBACK, DDL and SET autocommit end the
// transaction, and later statements form another one. So the fence sets a savepoint, with a random
// name, after the guard. Commit releases the savepoint in one statement with the COMMIT. In any
// other transaction the release fails.
//
// What follows an early end is not committed: autocommit is off, and the session's later
// transactions are read-only. For this reason the server also refuses the DDL itself, after the
// DDL's implicit commit. (The exceptions stand in docs/engines.md, "What Galera leaves open".)
//
// The guard is a write, see [Galera]. It is the transaction's first statement: the look at the gate
// before it is a transaction of its own. So nothing that the transaction reads is older than the
// guard.
type galeraFence struct {
	conn    *sql.Conn
	token   string // "" before Hold
	timeout string // in seconds
}

// gatePatience is how long a guarded transaction waits at the gate. gatePause is the time between
// two looks at it. If one and the same change has kept the gate closed for all of gatePatience, the
// guarded transaction opens the gate. Such a change has died, or waits for something else and will
// close the gate again.
const (
	gatePatience = 500 * time.Millisecond
	gatePause    = 2 * time.Millisecond
)

// galeraModes are mariaModes and use_stat_tables. Sometimes a statement opens its table anew: after
// FLUSH TABLES, after a change of schema, or because the table cache is small. It then reads the
// optimizer's statistics of the table, in a transaction of its own that takes the place of the
// session's transaction. An applier that wants to abort the session's transaction does not find it
// meanwhile. It waits for the locks until innodb_lock_wait_timeout (50 s) before it tries again,
// and the node waits with it.
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

// enter takes the guard unless a change has closed the gate. In that case closed is the change's
// token. The change with the token disregarded does not count. The node first catches up with
// everything that was committed on other nodes: otherwise it could refuse a leader that it has not
// heard of yet.
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

// holdGalera does not look at the gate. A change of leader that comes later may end what it holds.
func holdGalera(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	return wrote(tx.ExecContext(ctx, markGalera(c, newToken())))
}

// open opens the gate that a change of leader has left closed. If that fails, other guarded
// transactions will try.
func (f *galeraFence) open(ctx context.Context, tx *sql.Tx, c Claim, closed string) {
	_, _ = tx.ExecContext(ctx, "BEGIN NOT ATOMIC START TRANSACTION READ WRITE; "+
		"SET STATEMENT innodb_lock_wait_timeout=1 FOR UPDATE "+c.Table+" SET "+c.Mark+" = '' WHERE "+inline(c.Gate, c.GateArgs, mysqlLiteral)+
		" AND "+c.Mark+" = "+mysqlLiteral(closed)+"; COMMIT; END")
}

func (f *galeraFence) savepoint() string { return "election_" + f.token }

// Commit checks that the transaction is still the one that took the guard, and commits it. Both are
// one statement: no conflict comes between them, and no statement of a goroutine that the guarded
// function left behind.
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

// Rollback first sends a ROLLBACK that gives up when ctx ends: the driver's own does not.
func (f *galeraFence) Rollback(ctx context.Context, tx *Txn) error {
	_, _ = tx.ExecContext(ctx, "ROLLBACK")
	return tx.Rollback()
}

func (f *galeraFence) Ended() bool { return false }

// Lift begins with a ROLLBACK, because turning autocommit on commits an open transaction.
func (f *galeraFence) Lift(discard bool) error {
	if f.token == "" {
		return restore(f.conn, discard)
	}
	return restore(f.conn, discard, "BEGIN NOT ATOMIC ROLLBACK; "+putBack(mariaAll, f.timeout, galeraModes...)+"; END")
}

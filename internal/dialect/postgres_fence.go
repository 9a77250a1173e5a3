package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// fencePostgres returns the fence for conn. Behind a pooler the session is not conn's own, and a
// fence of another kind keeps the transaction whole.
func fencePostgres(ctx context.Context, conn *sql.Conn, _ string) (Fence, error) {
	pooled, err := behindPooler(ctx, conn)
	if err != nil {
		return nil, err
	}
	if pooled {
		return lendPostgres(conn)
	}
	return &postgresFence{conn: conn}, nil
}

// postgresFence keeps a guarded transaction whole on PostgreSQL. After an error inside the
// transaction, the server accepts no more of it. But a raw COMMIT or ROLLBACK drops the connection
// into autocommit. So all later transactions of the session are read-only, and a setting that is
// local to the guarded transaction tells at its end whether it is still the same one.
//
// Inside the transaction, and only there, default_transaction_read_only has its earlier value.
// After the COMMIT the session's value is one of these:
//
//   - "off": the guarded function has set it for the session. It stays.
//   - "on": the fence has set it. The earlier value is put back. (A function that sets "on" for the
//     session is not told from the fence.)
//
// A value that the function sets for the transaction alone ends with the transaction.
//
// The guard is a share lock on the row. A transaction that changes the row must wait for it. Both
// first pass a gate (an advisory lock), see gatePostgres.
type postgresFence struct {
	conn    *sql.Conn
	token   string
	touched bool // the session is read-only outside of the transaction
}

const (
	// postgresReadOnly saves the session's mode in the setting election.read_only, and makes the
	// session read-only. It commits this and begins the guarded transaction, whose ROLLBACK cannot
	// undo it.
	postgresReadOnly = "SELECT set_config('election.read_only', current_setting('default_transaction_read_only'), false); " +
		"SET SESSION default_transaction_read_only = on; COMMIT; BEGIN READ WRITE; "
	// postgresAsBefore sets the session's mode after the COMMIT of a guarded transaction, and
	// clears the settings that the fence has left in the session. The mode is "off" if the function
	// has set it, else the earlier value. If the session began with that value, NULL resets the
	// mode: it then goes on to follow the server's.
	postgresAsBefore = "set_config('default_transaction_read_only', CASE current_setting('default_transaction_read_only') " +
		"WHEN 'on' THEN NULLIF(current_setting('election.read_only'), current_setting('election.reset')) ELSE 'off' END, false), " +
		postgresForget + ", set_config('election.reset', '', false), set_config('election.guard', '', false)"
	postgresForget  = "set_config('election.read_only', '', false)"
	postgresRestore = "SELECT set_config(name, NULLIF(current_setting('election.read_only'), reset_val), false), " + postgresForget +
		" FROM pg_settings WHERE name = 'default_transaction_read_only'"
)

// postgresKeep leaves in the session what Commit needs after the COMMIT: the token, and the value
// that a reset gives to the session's mode.
func postgresKeep(token string) string {
	return "set_config('election.guard', '" + token + "', false), " +
		"set_config('election.reset', current_setting('election.reset'), false)"
}

// Begin begins a transaction that Hold replaces by another one.
func (f *postgresFence) Begin(ctx context.Context) (*Txn, error) { return beginTxn(ctx, f.conn) }

// Hold first makes the session read-only, in a transaction of its own that no later ROLLBACK
// undoes.
func (f *postgresFence) Hold(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	f.token = newToken()
	f.touched = true
	return holdPostgres(ctx, tx, postgresReadOnly, f.token, c)
}

func newToken() string { return fmt.Sprintf("%x", rand.Uint64()) }

// holdPostgres sends one text of several statements. All settings behind the text before end with
// the transaction. At READ COMMITTED each statement has its own snapshot. At the other levels a row
// that changed during the wait at the gate is a serialization failure. So no old row is taken for
// the present one.
//
// The timeouts bound a client that says nothing, a client whose statement waits, and a client that
// reads no more of a result. No timeout bounds a prepared transaction, which holds its locks
// without a client. So if the server has room for prepared transactions, the text exports a
// snapshot: the server then refuses PREPARE TRANSACTION.
func holdPostgres(ctx context.Context, tx *sql.Tx, before, token string, c Claim) (held bool, err error) {
	ms := milliseconds(c.Timeout)
	held, err = wrote(tx.ExecContext(ctx, before+
		"SELECT set_config(name, CASE WHEN vartype = 'bool' THEN COALESCE(NULLIF(current_setting('election.read_only', true), ''), setting)"+
		" WHEN setting::bigint BETWEEN 1 AND "+ms+" THEN setting ELSE '"+ms+"' END, true),"+
		" CASE vartype WHEN 'bool' THEN set_config('election.reset', reset_val, true) END FROM pg_settings WHERE name IN"+
		" ('default_transaction_read_only', 'idle_in_transaction_session_timeout', 'statement_timeout', 'tcp_user_timeout'); "+
		"SELECT CASE WHEN current_setting('max_prepared_transactions') <> '0' THEN pg_export_snapshot() END, "+
		"set_config('election.guard', '"+token+"', true), "+passGatePostgres(c)+"; "+
		lockPostgresRow(c)))
	if code, _ := postgresCode(err); code == "0A000" { // BEGIN READ WRITE on a standby
		return false, fmt.Errorf("%w: %w", errStandby, err)
	}
	return held, err
}

// passGatePostgres is an SQL function call that waits at the gate while the claimed row is being
// changed.
func passGatePostgres(c Claim) string {
	return "pg_advisory_xact_lock_shared(" + gateKey(c.Table, c.Name) + ")"
}

// lockPostgresRow selects and locks the row if it holds the claim.
func lockPostgresRow(c Claim) string {
	return "SELECT 1 FROM " + c.Table + " WHERE " + inline(c.Where, c.Args, postgresLiteral) + " FOR SHARE"
}

// holdRowPostgres sends two statements. The second one sees what was committed while the first one
// waited.
func holdRowPostgres(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	if _, err := tx.ExecContext(ctx, "SELECT "+passGatePostgres(c)); err != nil {
		return false, err
	}
	return wrote(tx.ExecContext(ctx, lockPostgresRow(c)))
}

// errStandby: the server takes no writes.
var errStandby = errors.New("the server is a standby")

// Commit leaves the token in the session, and looks for it after the COMMIT. If the transaction was
// rolled back between the check and the COMMIT, the token is gone. A goroutine that the function
// left behind may also have committed the transaction in between. So the session stays read-only
// until no such goroutine can send anything on it.
func (f *postgresFence) Commit(ctx context.Context, tx *Txn) error {
	if err := commitPostgres(ctx, tx, postgresKeep(f.token), f.token); err != nil {
		return err
	}
	result, err := f.conn.ExecContext(ctx, "SELECT "+postgresAsBefore+" WHERE current_setting('election.guard', true) = '"+f.token+"'")
	if err != nil {
		return uncertain(err, func(error) bool { return false })
	}
	n, err := result.RowsAffected()
	if err != nil || n != 1 {
		return errors.Join(ErrEnded, err)
	}
	f.touched = false
	return nil
}

// commitPostgres commits the transaction if it has the token. The statement that checks the token
// also selects last.
func commitPostgres(ctx context.Context, tx *Txn, last, token string) error {
	const aborted = "25P02"
	result, err := tx.ExecContext(ctx, "SELECT "+last+" WHERE current_setting('election.guard', true) = '"+token+"'")
	if code, _ := postgresCode(err); code == aborted || errors.Is(err, sql.ErrTxDone) {
		return ErrEnded
	}
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(ErrEnded, err)
	}
	err = tx.Commit()
	if errors.Is(err, ErrEnded) || errors.Is(err, pgx.ErrTxCommitRollback) { // it was whole at the check: another goroutine has ended it since
		return ErrEnded
	}
	return uncertain(err, rolledBackPostgres)
}

func (f *postgresFence) Rollback(_ context.Context, tx *Txn) error { return tx.Rollback() }

func (f *postgresFence) Ended() bool { return false }

func (f *postgresFence) Lift(discard bool) error {
	if !f.touched {
		return restore(f.conn, discard)
	}
	return restore(f.conn, discard, postgresRestore)
}

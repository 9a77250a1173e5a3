package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// fencePostgres returns the fence for conn: what keeps a transaction whole depends
// on whether the session is conn's own.
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

// postgresFence keeps a guarded transaction whole on PostgreSQL. An error inside
// it lets nothing more pass, but a raw COMMIT or ROLLBACK drops the connection
// into autocommit: so every transaction of the session after the guarded one is
// read-only, and a setting that is local to the transaction tells at its end
// whether it is still the same one.
//
// Inside the transaction, and only there, default_transaction_read_only has the value that
// it had before. After the COMMIT the session's value is "off" only if the guarded function has set it
// so for the session: then it stays. If it is "on", it is the fence's own, and is put back to what it
// was before. (A function that sets it to "on" for the session is not told from that, and what it sets
// for the transaction alone ends with it.)
//
// The guard is a share lock on the row, which whoever changes it writes,
// behind a gate (an advisory lock) that both pass first, see gatePostgres.
type postgresFence struct {
	conn    *sql.Conn
	token   string
	touched bool // the session is read-only but for the transaction
}

const (
	// postgresReadOnly remembers the session's mode in a setting of its own name, and puts
	// what follows the next transaction beyond its reach.
	postgresReadOnly = "SELECT set_config('election.read_only', current_setting('default_transaction_read_only'), false); " +
		"SET SESSION default_transaction_read_only = on; COMMIT; BEGIN READ WRITE; "
	// postgresAsBefore is the session's mode, after a guarded transaction that has left what it
	// was in settings of the session; NULL, which resets it, where it is the value that the session
	// began with: then it goes on to follow the server's.
	postgresAsBefore = "set_config('default_transaction_read_only', CASE current_setting('default_transaction_read_only') " +
		"WHEN 'on' THEN NULLIF(current_setting('election.read_only'), current_setting('election.reset')) ELSE 'off' END, false), " +
		postgresForget + ", set_config('election.reset', '', false), set_config('election.guard', '', false)"
	postgresForget  = "set_config('election.read_only', '', false)"
	postgresRestore = "SELECT set_config(name, NULLIF(current_setting('election.read_only'), reset_val), false), " + postgresForget +
		" FROM pg_settings WHERE name = 'default_transaction_read_only'"
)

// postgresKeep leaves in the session what Commit needs after the COMMIT: the token, and the value to which
// the session's mode is reset.
func postgresKeep(token string) string {
	return "set_config('election.guard', '" + token + "', false), " +
		"set_config('election.reset', current_setting('election.reset'), false)"
}

// Begin begins a transaction that Hold replaces by another one.
func (f *postgresFence) Begin(ctx context.Context) (*Txn, error) { return beginTxn(ctx, f.conn) }

// Hold puts the session's setting beyond the reach of a ROLLBACK first.
func (f *postgresFence) Hold(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	f.token = newToken()
	f.touched = true
	return holdPostgres(ctx, tx, postgresReadOnly, f.token, c)
}

func newToken() string { return fmt.Sprintf("%x", rand.Uint64()) }

// holdPostgres sends one text of several statements, all of whose settings end with
// the transaction. Each statement has its own snapshot at READ COMMITTED; at the other
// levels a row that changed while the gate was waited for is a serialization
// failure. So no past is taken for the present.
//
// The timeouts bound a client that says nothing, one for which a statement waits,
// and one that takes no more of a result. None would bound a prepared transaction, which
// holds its locks with no client: where the server has room for such, a snapshot is
// exported, after which it refuses PREPARE TRANSACTION.
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
	if code, _ := postgresCode(err); code == "0A000" { // BEGIN READ WRITE
		return false, fmt.Errorf("%w: %w", errStandby, err)
	}
	return held, err
}

// passGatePostgres is a function that waits at the gate while what is claimed is being changed.
func passGatePostgres(c Claim) string {
	return "pg_advisory_xact_lock_shared(" + gateKey(c.Table, c.Name) + ")"
}

// lockPostgresRow selects and locks the row if it holds the claim.
func lockPostgresRow(c Claim) string {
	return "SELECT 1 FROM " + c.Table + " WHERE " + inline(c.Where, c.Args, postgresLiteral) + " FOR SHARE"
}

// holdRowPostgres takes two statements, of which the second one sees what was committed while the first
// one waited.
func holdRowPostgres(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	if _, err := tx.ExecContext(ctx, "SELECT "+passGatePostgres(c)); err != nil {
		return false, err
	}
	return wrote(tx.ExecContext(ctx, lockPostgresRow(c)))
}

// errStandby: the server is none that takes writes.
var errStandby = errors.New("the server is a standby")

// Commit leaves the token in the session, and looks for it after the COMMIT: it is gone if
// the transaction was rolled back between the check and the COMMIT. The session stays
// read-only until nobody can send anything on it, as the transaction may have been
// committed there, too.
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

// commitPostgres commits the transaction that has the token, and selects once more
// in it before.
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
	if errors.Is(err, ErrEnded) || errors.Is(err, pgx.ErrTxCommitRollback) { // it was whole before: somebody else has ended it
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

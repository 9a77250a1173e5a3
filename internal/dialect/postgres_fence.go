package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
)

// postgresFence keeps a guarded transaction whole on PostgreSQL. An error inside
// it lets nothing more pass, but a raw COMMIT or ROLLBACK drops the connection
// into autocommit: so every transaction of the session after the guarded one is
// read-only, and a setting that is local to the transaction tells at its end
// whether it is still the same one.
//
// The guard is a share lock on the leader row, which the change of leader writes,
// behind a gate (an advisory lock) that both pass first, see gatePostgres.
type postgresFence struct {
	conn    *sql.Conn
	token   string
	touched bool // the session is read-only but for the transaction
}

const postgresReadWrite = "SET SESSION default_transaction_read_only = off"

// Hold sends one text of several statements. The first two put the session's
// setting beyond the reach of a ROLLBACK. Each statement has its own snapshot at
// READ COMMITTED; at the other levels a leader row that changed while the gate was
// waited for is a serialization failure. So no past is taken for the present.
func (f *postgresFence) Hold(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	f.token = fmt.Sprintf("%x", rand.Uint64())
	f.touched = true
	result, err := tx.ExecContext(ctx, "SET SESSION default_transaction_read_only = on; COMMIT; BEGIN READ WRITE; "+
		"SELECT set_config('idle_in_transaction_session_timeout', '"+milliseconds(c.Timeout)+"', true),"+
		" set_config('election.guard', '"+f.token+"', true), pg_advisory_xact_lock_shared("+gateKey(c.Table, c.Election)+"); "+
		"SELECT 1 FROM "+c.Table+" WHERE "+inline(c.Where, c.Args, postgresLiteral)+" FOR SHARE")
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// Permit makes the session as it was from the COMMIT on.
func (f *postgresFence) Permit(ctx context.Context, tx *sql.Tx) error {
	const aborted = "25P02"
	result, err := tx.ExecContext(ctx, "SELECT set_config('default_transaction_read_only', 'off', false)"+
		" WHERE current_setting('election.guard', true) = '"+f.token+"'")
	if code, _ := postgresCode(err); code == aborted || errors.Is(err, sql.ErrTxDone) {
		return ErrEnded
	}
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(ErrEnded, err)
	}
	return nil
}

func (f *postgresFence) Ended() bool { return false }

func (f *postgresFence) Lift(committed, discard bool) error {
	if committed || !f.touched {
		return restore(f.conn, discard)
	}
	return restore(f.conn, discard, postgresReadWrite)
}

package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Statement is SQL with question marks for its arguments, each an int, an int64 or a
// string, and a % for the quoted table.
type Statement struct {
	Query string
	Args  []any
	// Missed is the error if it finds no row; nil: it need not find any.
	Missed error
}

// Transaction is a change of leader whose statements are all known before it begins.
type Transaction struct {
	Table, Election string        // of the gate that it has to pass; Table quoted
	Wait            time.Duration // for locks, at the server
	Statements      []Statement   // that write rows
}

// Transact runs t on a pinned connection, in one round trip: from BEGIN to COMMIT it waits for
// its client nowhere. If a statement finds no row, its error Missed is
// returned and nothing is committed. An error that wraps errors.ErrUnsupported means
// that nothing was done, as this connection cannot do so, and driver.ErrBadConn that it
// was dead already. What any other error says of the outcome is for its class to tell.
// Afterwards the connection is as it was, or closed.
func (d *Dialect) Transact(ctx context.Context, conn *sql.Conn, t Transaction) error {
	if d.transact == nil {
		return errors.ErrUnsupported
	}
	return d.transact(ctx, conn, t)
}

// transactMariaDB sends one text, as values in a compound statement cannot be parameters.
// Whatever fails, it leaves no transaction open, and it changes no setting: so Prepare
// has nothing to add.
func transactMariaDB(ctx context.Context, conn *sql.Conn, t Transaction) error {
	var body strings.Builder
	var names, needed []string
	found := make([]int64, len(t.Statements))
	dest := make([]any, len(found))
	for i, s := range t.Statements {
		dest[i] = &found[i]
		names = append(names, "election_"+strconv.Itoa(i))
		if s.Missed != nil {
			needed = append(needed, names[i]+" > 0")
		}
		body.WriteString(strings.Replace(inline(s.Query, s.Args, mysqlTextLiteral), "%", t.Table, 1) + "; SET " + names[i] + " = ROW_COUNT(); ")
	}
	all := strings.Join(names, ", ")
	err := conn.QueryRowContext(ctx, "SET STATEMENT innodb_lock_wait_timeout="+seconds(t.Wait)+" FOR BEGIN NOT ATOMIC DECLARE "+all+" BIGINT;"+
		" DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;"+
		" SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION; "+body.String()+
		"IF "+strings.Join(needed, " AND ")+" THEN COMMIT; ELSE ROLLBACK; END IF; SELECT "+all+"; END").Scan(dest...)
	if err != nil && !errors.Is(err, driver.ErrBadConn) { // a handler does not see that it was killed
		return errors.Join(err, restore(conn, false, "ROLLBACK"))
	}
	for i, s := range t.Statements {
		if err == nil && found[i] == 0 {
			err = s.Missed
		}
	}
	return err
}

// transactPostgres sends one batch, which the server works off statement by statement, up to the
// first that fails. It needs pgx itself: behind a wrapper, the statements go through
// that one by one.
func transactPostgres(ctx context.Context, conn *sql.Conn, t Transaction) error {
	var err error
	raw := conn.Raw(func(dc any) error {
		c, ok := dc.(interface{ Conn() *pgx.Conn })
		if !ok {
			err = errors.ErrUnsupported
			return nil
		}
		pg := c.Conn()
		err = t.onPgx(ctx, pg)
		if pg.PgConn().TxStatus() == 'I' {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), liftTimeout)
		defer cancel()
		if _, rollbackErr := pg.Exec(ctx, "ROLLBACK"); rollbackErr != nil {
			_ = pg.Close(ctx) // database/sql finds it closed
		}
		return nil
	})
	return errors.Join(err, raw)
}

func (t Transaction) onPgx(ctx context.Context, pg *pgx.Conn) (err error) {
	batch := new(pgx.Batch)
	batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	batch.Queue(passGatePostgres(t.Table, t.Election, t.Wait))
	first := batch.Len()
	d := PostgreSQL()
	for _, s := range t.Statements {
		query := strings.Replace(d.Rebind(s.Query), "%", t.Table, 1)
		if s.Missed != nil { // to find no row is an error, at which the server stops
			query = "WITH written AS (" + query + " RETURNING 1) SELECT 1 / count(*) FROM written"
		}
		batch.Queue(query, s.Args...)
	}
	batch.Queue("COMMIT")
	results := pg.SendBatch(ctx, batch)
	defer func() { err = errors.Join(err, results.Close()) }()
	for i := range batch.Len() {
		tag, err := results.Exec()
		code, _ := postgresCode(err)
		switch at := i - first; {
		case code == "22012" && at >= 0: // division by zero
			return t.Statements[at].Missed
		case err != nil && pgconn.SafeToRetry(err):
			return fmt.Errorf("%w: %w", driver.ErrBadConn, err)
		case err != nil:
			return err
		case at == len(t.Statements) && tag.String() != "COMMIT":
			return pgx.ErrTxCommitRollback
		}
	}
	return nil
}

package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// transactPostgres sends one batch. The server runs its statements one after the other, COMMIT
// included. The batch needs pgx itself: a wrapper around it is to see each statement, so then the
// error is errors.ErrUnsupported, and the statements go through the wrapper one by one.
func transactPostgres(ctx context.Context, conn *sql.Conn, t BatchedChange) error {
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

// Only an error stops a batch, and alerts look for errors in a server's log. So a change that must
// not be made runs to its COMMIT and writes nothing (except for the empty rows of a first change).
// Each write asks a setting of the transaction whether the change is open. The change is open if
// the gate was free, and if every row that it needs was there and is locked by now. Because of the
// locks, later statements find what the earlier ones found.
const (
	postgresChange = "election.change"
	postgresOpen   = "current_setting('" + postgresChange + "') = 'open'"
)

func postgresSetChange(open string) string {
	return "set_config('" + postgresChange + "', CASE WHEN " + open + " THEN 'open' ELSE 'shut' END, true)"
}

// errGateShut: a guarded transaction, a renewal or another change is under way.
var errGateShut = errors.New("somebody has passed the gate, or holds a row")

const (
	// postgresDivisionByZero stops a batch whose write finds no row although the row was there and
	// is locked: a trigger of the program's own has swallowed the write.
	postgresDivisionByZero = "22012"
	// postgresAtOnce bounds the remaining waits, in milliseconds: for DDL, and at COMMIT for other
	// transactions that notify.
	postgresAtOnce = "100"

	allLocked = -1 // verdicts of lockPostgres; any other is the number of the statement that has missed
	notLocked = -2
)

func (t BatchedChange) onPgx(ctx context.Context, pg *pgx.Conn) (err error) {
	batch := new(pgx.Batch)
	batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	batch.Queue("SELECT set_config('lock_timeout', '" + postgresAtOnce + "', true), " +
		postgresSetChange("pg_try_advisory_xact_lock("+gateKey(t.Table, t.Name)+")"))
	// Rows that must merely exist are inserted first, so that they can be locked.
	made := slices.IndexFunc(t.Statements, func(s Statement) bool { return s.Values == "" || s.IfNoRow != nil })
	for _, s := range t.Statements[:made] {
		query, args := s.ifOpen()
		batch.Queue(t.onTable(query), args...)
	}
	lock, args := t.lockPostgres()
	batch.Queue(t.onTable(lock), args...)
	for _, s := range t.Statements[made:] {
		query, args := s.ifOpen()
		if s.IfNoRow != nil {
			query = "WITH written AS (" + query + " RETURNING 1) SELECT 1 / CASE WHEN " + postgresOpen + " THEN count(*) ELSE 1 END FROM written"
		}
		batch.Queue(t.onTable(query), args...)
	}
	batch.Queue("COMMIT")
	if pg.IsClosed() {
		return driver.ErrBadConn
	}
	// From here on no error says that nothing was sent: in this, the errors of a batch cannot be
	// trusted.
	results := pg.SendBatch(ctx, batch)
	defer func() {
		if closeErr := results.Close(); err == nil {
			err = closeErr
		}
	}()
	if err := t.opened(results, made); err != nil {
		return err
	}
	for _, s := range t.Statements[made:] {
		_, err := results.Exec()
		if code, _ := postgresCode(err); code == postgresDivisionByZero && s.IfNoRow != nil {
			return s.IfNoRow
		}
		if err != nil {
			return err
		}
	}
	tag, err := results.Exec()
	if err == nil && tag.String() != "COMMIT" {
		err = pgx.ErrTxCommitRollback
	}
	return Unheard(err)
}

// ifOpen is Query with one more condition: the statement writes nothing unless the change is open.
func (s Statement) ifOpen() (query string, args []any) {
	if s.Values != "" {
		return s.Write + " SELECT " + s.Values + " WHERE " + postgresOpen + " " + s.Existing, s.Args
	}
	query, args = s.Query()
	return query + " AND " + postgresOpen, args
}

// onTable puts the table and PostgreSQL's placeholders into a statement.
func (t BatchedChange) onTable(query string) string {
	return strings.ReplaceAll(PostgreSQL().Rebind(query), "%", t.Table)
}

// lockPostgres is a query that locks the rows that t needs, if the gate was free. It locks them in
// the order of t's statements, and waits for none of them. If it has locked all of them, and none
// of the rows that t adds exists, it leaves the change open and notifies the listeners.
func (t BatchedChange) lockPostgres() (query string, args []any) {
	var missing, locked []string
	var lockedArgs []any
	for i, s := range t.Statements {
		row := "EXISTS (SELECT 1 FROM % WHERE " + s.Where
		switch {
		case s.IfNoRow == nil:
		case s.Values != "":
			missing, args = append(missing, "WHEN "+row+") THEN "+strconv.Itoa(i)), append(args, s.Rows...)
		default:
			missing = append(missing, "WHEN NOT "+row+") THEN "+strconv.Itoa(i))
			locked = append(locked, row+" FOR UPDATE SKIP LOCKED)")
			args, lockedArgs = append(args, s.Rows...), append(lockedArgs, s.Rows...)
		}
	}
	all := strconv.Itoa(allLocked)
	return "WITH found AS MATERIALIZED (SELECT CASE " + strings.Join(missing, " ") + " WHEN " + strings.Join(locked, " AND ") +
		" THEN " + all + " ELSE " + strconv.Itoa(notLocked) + " END AS verdict WHERE " + postgresOpen + ")" +
		" SELECT verdict, " + postgresSetChange("verdict = "+all) + ", CASE WHEN verdict = " + all + " THEN " +
		postgresNotify(Subject{Table: t.Table, Name: t.Name}.Key()) + " END FROM found", append(args, lockedArgs...)
}

// opened returns the error of a change that is shut. Such a change writes nothing, except for rows
// that must merely exist.
func (t BatchedChange) opened(results pgx.BatchResults, made int) error {
	for range 2 + made { // BEGIN, the gate, and the rows that are inserted first
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	verdict := notLocked
	for rows.Next() {
		if err := rows.Scan(&verdict, nil, nil); err != nil {
			return err
		}
	}
	switch {
	case rows.Err() != nil:
		return rows.Err()
	case verdict == notLocked:
		return errGateShut
	case verdict != allLocked:
		return t.Statements[verdict].IfNoRow
	}
	return nil
}

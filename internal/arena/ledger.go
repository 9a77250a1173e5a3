package arena

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// Entry is one row of the ledger: who wrote it, in which term by its own knowledge,
// and in which attempt. Entries are comparable.
type Entry struct {
	Seq  int64
	Term uint64
	Process
	Token string
}

// String is for findings.
func (e Entry) String() string {
	return fmt.Sprintf("entry %d of %s in term %d (%s)", e.Seq, e.Process, e.Term, e.Token)
}

// The tables of a run, each behind the venue's prefix.
const (
	electionTable = "election"
	ledgerTable   = "ledger"
	counterTable  = "counter" // one row: the last number that was taken
)

const (
	// connectTimeout bounds the first use of a database.
	connectTimeout = 10 * time.Second
	// dropTimeout bounds the wait for whoever still uses a table.
	dropTimeout = 10 * time.Second
)

// Ledger is a handle on the tables of a run. It is safe for concurrent use.
type Ledger struct {
	DB      *sql.DB
	Dialect *dialect.Dialect
	prefix  string
}

// Open connects to the venue's tables, whether or not they exist. Its errors hold no
// secret.
func Open(ctx context.Context, v Venue) (*Ledger, error) {
	db, err := v.open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	l, err := newLedger(ctx, db, v.Prefix)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %q: %w", v, v.Redact(err)), db.Close())
	}
	return l, nil
}

// newLedger asks which engine db is. The ledger closes db.
func newLedger(ctx context.Context, db *sql.DB, prefix string) (*Ledger, error) {
	l := &Ledger{DB: db, prefix: prefix}
	var identity string
	err := sqldb.Retry(ctx, func() (err error) {
		if l.Dialect, err = dialect.Detect(ctx, db); err == nil {
			identity, err = l.Dialect.Identity(ctx, db)
		}
		return err
	})
	if err == nil && identity == dialect.MemoryIdentity("") {
		err = errors.New("it is in the memory of one process, and the members are several")
	}
	return l, err
}

// Close closes the database.
func (l *Ledger) Close() error { return l.DB.Close() }

// Names are those of all tables.
func (l *Ledger) Names() []string {
	return []string{l.prefix + electionTable, l.prefix + ledgerTable, l.prefix + counterTable}
}

// SQL fills in the tables' names and the engine's placeholders.
func (l *Ledger) SQL(query string) string {
	return strings.NewReplacer(
		"{election}", l.Dialect.Quote(l.prefix+electionTable),
		"{ledger}", l.Dialect.Quote(l.prefix+ledgerTable),
		"{counter}", l.Dialect.Quote(l.prefix+counterTable),
	).Replace(l.Dialect.Rebind(query))
}

// Create creates the tables, before any member exists; all or none.
func (l *Ledger) Create(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("create tables: %w", err), l.Drop())
		}
	}()
	types := l.Dialect.Types
	for _, statement := range []string{
		l.Dialect.BoundedDDL + "CREATE TABLE {ledger} (seq " + types.Integer + " NOT NULL PRIMARY KEY, " +
			"term " + types.Integer + " NOT NULL, member " + types.Text + " NOT NULL, process " + types.Integer + " NOT NULL, " +
			"token " + types.Text + " NOT NULL)",
		l.Dialect.BoundedDDL + "CREATE TABLE {counter} (id " + types.Integer + " NOT NULL PRIMARY KEY, " +
			"seq " + types.Integer + " NOT NULL)",
		"INSERT INTO {counter} (id, seq) VALUES (1, 0)",
	} {
		err := sqldb.Retry(ctx, func() error {
			_, err := l.DB.ExecContext(ctx, l.SQL(statement))
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err = election.NewSQLStorage(l.DB, l.prefix+electionTable)
	return err
}

// Drop drops the tables that are there, also when the run has been interrupted.
func (l *Ledger) Drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	var failure error
	for _, name := range l.Names() {
		err := sqldb.Retry(ctx, func() error { return l.dropTable(ctx, name) })
		if err != nil {
			failure = errors.Join(failure, fmt.Errorf("drop table %s: %w", name, err))
		}
	}
	return failure
}

// dropTable looks first: where nothing is, the right to drop it may be missing.
func (l *Ledger) dropTable(ctx context.Context, name string) error {
	seen, err := l.Dialect.Look(ctx, l.DB, name)
	if err != nil || len(seen.Columns) == 0 {
		return err
	}
	_, err = l.DB.ExecContext(ctx, l.Dialect.BoundedDDL+"DROP TABLE IF EXISTS "+l.Dialect.Quote(name))
	return err
}

// append takes the next number inside tx and holds on to the counter's row, so that
// the order of the numbers is the order of the commits. A transaction sees its own
// write, on whatever snapshot it reads.
func (l *Ledger) append(ctx context.Context, tx querier, e *Entry) error {
	if _, err := tx.ExecContext(ctx, l.SQL("UPDATE {counter} SET seq = seq + 1 WHERE id = 1")); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, l.SQL("SELECT seq FROM {counter} WHERE id = 1")).Scan(&e.Seq); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, l.SQL("INSERT INTO {ledger} (seq, term, member, process, token) VALUES (?, ?, ?, ?, ?)"),
		e.Seq, int64(e.Term), e.Member, e.Number, e.Token)
	return err
}

// Last returns the number of the last entry, 0 if there is none.
func (l *Ledger) Last(ctx context.Context) (seq int64, err error) {
	err = l.DB.QueryRowContext(ctx, l.SQL("SELECT COALESCE(MAX(seq), 0) FROM {ledger}")).Scan(&seq)
	return seq, err
}

// Entries returns every entry, by number.
func (l *Ledger) Entries(ctx context.Context) (entries []Entry, err error) {
	rows, err := l.DB.QueryContext(ctx, l.SQL("SELECT seq, term, member, process, token FROM {ledger} ORDER BY seq"))
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var e Entry
		if err := rows.Scan(&e.Seq, &e.Term, &e.Member, &e.Number, &e.Token); err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return entries, nil
}

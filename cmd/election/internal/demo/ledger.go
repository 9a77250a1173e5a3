package demo

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

// entry is one row of the ledger: who wrote it, and in which term by its own
// knowledge. Entries are comparable.
type entry struct {
	Seq    int64
	Term   uint64
	Member string
}

func (e entry) String() string {
	return fmt.Sprintf("entry %d of %s in term %d", e.Seq, e.Member, e.Term)
}

// The tables of a run, each behind the run's prefix.
const (
	electionTable = "election"
	ledgerTable   = "ledger"
	counterTable  = "counter" // one row: the ledger's last sequence
)

// dropTimeout bounds the wait for whoever still uses a table.
const dropTimeout = 10 * time.Second

// ledger is a handle on the tables of a run.
type ledger struct {
	db      *sql.DB
	dialect *dialect.Dialect
	prefix  string
}

// newLedger asks which engine db is. The ledger closes db.
func newLedger(ctx context.Context, db *sql.DB, prefix string) (*ledger, error) {
	l := &ledger{db: db, prefix: prefix}
	var identity string
	err := sqldb.Retry(ctx, func() (err error) {
		if l.dialect, err = dialect.Detect(ctx, db); err == nil {
			identity, err = l.dialect.Identity(ctx, db)
		}
		return err
	})
	if err == nil && identity == dialect.MemoryIdentity("") {
		err = errors.New("it is in the memory of one process, and the members are three")
	}
	return l, err
}

func (l *ledger) close() error { return l.db.Close() }

// names are those of all tables.
func (l *ledger) names() []string {
	return []string{l.prefix + electionTable, l.prefix + ledgerTable, l.prefix + counterTable}
}

// sql fills in the tables' names and the engine's placeholders.
func (l *ledger) sql(query string) string {
	return strings.NewReplacer(
		"{ledger}", l.dialect.Quote(l.prefix+ledgerTable),
		"{counter}", l.dialect.Quote(l.prefix+counterTable),
	).Replace(l.dialect.Rebind(query))
}

// storage opens the election's table, and creates it where it is missing.
func (l *ledger) storage() (*election.SQLStorage, error) {
	return election.NewSQLStorage(l.db, l.prefix+electionTable)
}

// create creates the tables, before any member exists; all or none.
func (l *ledger) create(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("create tables (the demo needs the right to create and drop its own): %w", err), l.drop())
		}
	}()
	types := l.dialect.Types
	for _, statement := range []string{
		l.dialect.BoundedDDL + "CREATE TABLE {ledger} (seq " + types.Integer + " NOT NULL PRIMARY KEY, " +
			"term " + types.Integer + " NOT NULL, member " + types.Text + " NOT NULL)",
		l.dialect.BoundedDDL + "CREATE TABLE {counter} (id " + types.Integer + " NOT NULL PRIMARY KEY, " +
			"seq " + types.Integer + " NOT NULL)",
		"INSERT INTO {counter} (id, seq) VALUES (1, 0)",
	} {
		err := sqldb.Retry(ctx, func() error {
			_, err := l.db.ExecContext(ctx, l.sql(statement))
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err = l.storage()
	return err
}

// drop drops the tables that are there, also when the run has been interrupted.
func (l *ledger) drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	var failure error
	for _, name := range l.names() {
		err := sqldb.Retry(ctx, func() error { return l.dropTable(ctx, name) })
		if err != nil {
			failure = errors.Join(failure, fmt.Errorf("drop table %s: %w", name, err))
		}
	}
	return failure
}

// dropTable looks first: where nothing is, the right to drop it may be missing.
func (l *ledger) dropTable(ctx context.Context, name string) error {
	seen, err := l.dialect.Look(ctx, l.db, name)
	if err != nil || len(seen.Columns) == 0 {
		return err
	}
	_, err = l.db.ExecContext(ctx, l.dialect.BoundedDDL+"DROP TABLE IF EXISTS "+l.dialect.Quote(name))
	return err
}

// append takes the next sequence inside tx and holds on to the counter's row,
// so that the order of the sequence is the order of the commits. A transaction
// sees its own write, on whatever snapshot it reads.
func (l *ledger) append(ctx context.Context, tx *sql.Tx, e *entry) error {
	if _, err := tx.ExecContext(ctx, l.sql("UPDATE {counter} SET seq = seq + 1 WHERE id = 1")); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, l.sql("SELECT seq FROM {counter} WHERE id = 1")).Scan(&e.Seq); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, l.sql("INSERT INTO {ledger} (seq, term, member) VALUES (?, ?, ?)"),
		e.Seq, int64(e.Term), e.Member)
	return err
}

// appendGuarded writes an entry that can only be committed while member leads in
// the term that ctx carries. The entry says the term that ctx carries, whether
// or not that is still so. A sequence comes back with an error too, if one was
// taken.
func (l *ledger) appendGuarded(ctx context.Context, storage *election.SQLStorage, member string) (entry, error) {
	e := entry{Term: termOf(ctx), Member: member}
	err := storage.TxnWithLeaderLock(ctx, member, func(tx *sql.Tx) error { return l.append(ctx, tx, &e) })
	return e, err
}

// appendUnguarded is what a program without the guard does: it takes its own
// word for it that it leads.
func (l *ledger) appendUnguarded(ctx context.Context, member string) (entry, error) {
	e := entry{Term: termOf(ctx), Member: member}
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return e, err
	}
	defer tx.Rollback() // without effect after the commit
	if err := l.append(ctx, tx, &e); err != nil {
		return e, err
	}
	return e, tx.Commit()
}

func termOf(ctx context.Context) uint64 {
	leadership, _ := election.LeadershipFromContext(ctx)
	return leadership.Term
}

// entries returns every entry, by sequence.
func (l *ledger) entries(ctx context.Context) ([]entry, error) {
	rows, err := l.db.QueryContext(ctx, l.sql("SELECT seq, term, member FROM {ledger} ORDER BY seq"))
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer rows.Close()
	var entries []entry
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.Seq, &e.Term, &e.Member); err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return entries, nil
}

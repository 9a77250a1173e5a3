//go:build linux

package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dialect"
)

// entry is one row of the ledger. Entries are comparable.
type entry struct {
	Seq    int64
	Change bool // the leader row was written: Member, or nobody, leads in Term
	Term   uint64
	Member string
	Life   int    // of an entry that a member wrote
	Token  string // likewise
	At     int64  // of a change: the database's clock, Unix microseconds
}

// ledger is a handle on the tables of a run.
type ledger struct {
	db      *sql.DB
	dialect *dialect.Dialect
}

func openLedger(ctx context.Context, driver, source string) (*ledger, error) {
	db, err := sql.Open(driver, source)
	if err != nil {
		return nil, err
	}
	l := &ledger{db: db}
	if l.dialect, err = dialect.Detect(ctx, db); err != nil {
		return nil, fmt.Errorf("ask for the engine: %w", err)
	}
	return l, nil
}

// create creates the tables and the triggers, before any member exists.
func (l *ledger) create(ctx context.Context) error {
	if _, err := election.NewSQLStorage(l.db, electionTable); err != nil {
		return err
	}
	types := l.dialect.Types
	columns := "(seq " + types.Integer + " NOT NULL PRIMARY KEY, kind " + types.Integer + " NOT NULL, " +
		"term " + types.Integer + " NOT NULL, member " + types.Text + " NOT NULL, life " + types.Integer + " NOT NULL, " +
		"token " + types.Text + " NOT NULL, at " + types.Integer + " NOT NULL)"
	statements := append([]string{
		"CREATE TABLE ledger " + columns,
		"CREATE TABLE counter (id " + types.Integer + " NOT NULL PRIMARY KEY, seq " + types.Integer + " NOT NULL)",
		"INSERT INTO counter (id, seq) VALUES (1, 0)",
	}, triggers(l.dialect.Name)...)
	for _, statement := range statements {
		if _, err := l.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create tables: %w", err)
		}
	}
	return nil
}

const electionTable = "election"

// The kinds of entries.
const (
	byMember = 0
	byChange = 1
)

// triggers write an entry whenever the leader row (id 2) changes, as a part of
// the same transaction.
func triggers(engine string) []string {
	const (
		inserted = "NEW.id = 2"
		updated  = "NEW.id = 2 AND (NEW.version <> OLD.version OR NEW.leader_id <> OLD.leader_id)"
		body     = "UPDATE counter SET seq = seq + 1 WHERE id = 1; INSERT INTO ledger " +
			"SELECT seq, 1, NEW.version, NEW.leader_id, 0, '', {now} FROM counter WHERE id = 1; "
	)
	now, form := "", ""
	switch engine {
	case "SQLite":
		now = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
		form = "CREATE TRIGGER on_{event} AFTER {event} ON election FOR EACH ROW WHEN {condition} BEGIN {body}END"
	case "PostgreSQL":
		now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
		body := strings.ReplaceAll(body, "{now}", now)
		return []string{
			"CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " + body + "RETURN NULL; END $$",
			"CREATE TRIGGER on_insert AFTER INSERT ON election FOR EACH ROW WHEN (" + inserted + ") EXECUTE FUNCTION note_change()",
			"CREATE TRIGGER on_update AFTER UPDATE ON election FOR EACH ROW WHEN (" + updated + ") EXECUTE FUNCTION note_change()",
		}
	default: // the MySQL family
		now = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"
		form = "CREATE TRIGGER on_{event} AFTER {event} ON election FOR EACH ROW IF {condition} THEN {body}END IF"
	}
	fill := func(event, condition string) string {
		return strings.NewReplacer("{event}", event, "{condition}", condition,
			"{body}", strings.ReplaceAll(body, "{now}", now)).Replace(form)
	}
	return []string{fill("INSERT", inserted), fill("UPDATE", updated)}
}

// querier is a transaction, of database/sql or gorm's.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// append takes the next number inside tx and holds on to the counter's row, so
// that the order of the numbers is the order of the commits. A transaction sees
// its own write, on whatever snapshot it reads.
func (l *ledger) append(ctx context.Context, tx querier, e entry) error {
	if _, err := tx.ExecContext(ctx, "UPDATE counter SET seq = seq + 1 WHERE id = 1"); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, "SELECT seq FROM counter WHERE id = 1").Scan(&e.Seq); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, l.dialect.Rebind("INSERT INTO ledger (seq, kind, term, member, life, token, at) VALUES (?, ?, ?, ?, ?, ?, ?)"),
		e.Seq, byMember, int64(e.Term), e.Member, e.Life, e.Token, 0)
	return err
}

// last returns the number of the last entry that a member wrote.
func (l *ledger) last(ctx context.Context) (seq int64, err error) {
	err = l.db.QueryRowContext(ctx, l.dialect.Rebind("SELECT COALESCE(MAX(seq), 0) FROM ledger WHERE kind = ?"), byMember).Scan(&seq)
	return seq, err
}

// leader returns whom the leader row names, "" if nobody.
func (l *ledger) leader(ctx context.Context) (member string, err error) {
	err = l.db.QueryRowContext(ctx, "SELECT leader_id FROM election WHERE id = 2").Scan(&member)
	return member, err
}

// entries returns all entries, by number.
func (l *ledger) entries(ctx context.Context) (entries []entry, err error) {
	rows, err := l.db.QueryContext(ctx, "SELECT seq, kind, term, member, life, token, at FROM ledger ORDER BY seq")
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var e entry
		var kind int
		if err := rows.Scan(&e.Seq, &kind, &e.Term, &e.Member, &e.Life, &e.Token, &e.At); err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
		e.Change = kind == byChange
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return entries, nil
}

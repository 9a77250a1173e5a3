//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/sqlelect/election/internal/arena"
)

// change is a change of the leader row, as its transaction wrote it down.
type change struct {
	seq    int64
	term   uint64
	member string // who leads from here on, "" if nobody
	at     int64  // the database's clock, Unix microseconds
}

// createChanges creates the table of changes, and the triggers on the leader row
// that write them. A change takes its number from the ledger's counter.
func createChanges(ctx context.Context, l *arena.Ledger) error {
	types := l.Dialect.Types
	statements := append([]string{
		"CREATE TABLE changes (seq " + types.Integer + " NOT NULL PRIMARY KEY, term " + types.Integer + " NOT NULL, " +
			"member " + types.Text + " NOT NULL, at " + types.Integer + " NOT NULL)",
	}, triggers(l.Dialect.Name)...)
	for _, statement := range statements {
		if _, err := l.DB.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create triggers: %w", err)
		}
	}
	return nil
}

// triggers write a change whenever the leader row (id 2) changes, as a part of the
// same transaction.
func triggers(engine string) []string {
	const (
		inserted = "NEW.id = 2"
		updated  = "NEW.id = 2 AND (NEW.version <> OLD.version OR NEW.leader_id <> OLD.leader_id)"
		body     = "UPDATE counter SET seq = seq + 1 WHERE id = 1; INSERT INTO changes " +
			"SELECT seq, NEW.version, NEW.leader_id, {now} FROM counter WHERE id = 1; "
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

// readChanges returns all changes, by number.
func readChanges(ctx context.Context, l *arena.Ledger) (changes []change, err error) {
	rows, err := l.DB.QueryContext(ctx, "SELECT seq, term, member, at FROM changes ORDER BY seq")
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var c change
		if err := rows.Scan(&c.seq, &c.term, &c.member, &c.at); err != nil {
			return nil, fmt.Errorf("read changes: %w", err)
		}
		changes = append(changes, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	return changes, nil
}

// leader returns whom the leader row names, "" if nobody.
func leader(ctx context.Context, l *arena.Ledger) (member string, err error) {
	err = l.DB.QueryRowContext(ctx, "SELECT leader_id FROM election WHERE id = 2").Scan(&member)
	return member, err
}

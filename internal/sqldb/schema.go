package sqldb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sqlelect/election/internal/dialect"
)

// Table is a table to create where it is missing and to grow where an older
// version of it stands.
type Table struct {
	Name    string
	Columns []Column // the first one is the primary key
	Unique  []Unique
}

// Column is a column of a Table.
type Column struct {
	Name string
	// Type is the engine's type and what follows it, such as NOT NULL.
	Type string
	// Added columns came in a later version: they are added to a table without
	// them, while the lack of another column means that this is not our table.
	Added bool
}

// Unique is a unique key over columns.
type Unique struct {
	Suffix  string // of the index's name, after the table's
	Columns []string
}

// MissingError says what a table lacks and how to add it.
type MissingError struct {
	Table string
	// Absent: there is no such table at all.
	Absent bool
	// SQL are the statements that would complete the table.
	SQL []string
	// Cause is why they could not be run.
	Cause error
}

// Error holds the statements to run.
func (e *MissingError) Error() string {
	if e.Absent {
		return fmt.Sprintf("create table %q: %v; run: %s", e.Table, e.Cause, strings.Join(e.SQL, "; "))
	}
	return fmt.Sprintf("table %q lacks columns or keys and could not be changed (%v); run: %s",
		e.Table, e.Cause, strings.Join(e.SQL, "; "))
}

// Unwrap returns the cause.
func (e *MissingError) Unwrap() error { return e.Cause }

// Ensure creates t or completes it. Any number of processes may do so at once:
// whether a statement failed is judged by looking again, not by its error, which
// on most engines cannot be told from a rival's success.
//
// A table that cannot be created or completed, for lack of rights, because the
// database is read-only or because others keep it locked, is a *MissingError.
func Ensure(ctx context.Context, db *sql.DB, d *dialect.Dialect, t Table) error {
	missing, err := Missing(ctx, db, d, t)
	if err != nil || len(missing) == 0 {
		return err
	}
	// Each statement may uncover the next one's need, and a rival may have done
	// the same: two passes are enough, one more is for the final look.
	var failure error
	for range 3 {
		failure = nil
		for _, statement := range missing {
			failure = errors.Join(failure, change(ctx, db, d.BoundedDDL+statement))
		}
		if missing, err = Missing(ctx, db, d, t); err != nil || len(missing) == 0 {
			return err
		}
	}
	have, err := columnsOf(ctx, db, d, t.Name)
	if err != nil {
		return fmt.Errorf("create table %q: %w", t.Name, errors.Join(failure, err))
	}
	return &MissingError{Table: t.Name, Absent: len(have) == 0, SQL: missing, Cause: failure}
}

// changeLimit bounds one change: a table that is in use works as it is.
const changeLimit = 2 * time.Second

// Unfit returns an error that says why elections cannot work in this session, or
// in the table of that name, if there is a reason.
func Unfit(ctx context.Context, db *sql.DB, d *dialect.Dialect, table string) error {
	for _, check := range []struct {
		query   string
		args    []any
		subject string
	}{{d.UnfitSession, nil, "the session's setting"}, {d.UnfitTable, []any{table}, fmt.Sprintf("table %q", table)}} {
		if check.query == "" {
			continue
		}
		var reason sql.NullString
		err := db.QueryRowContext(ctx, d.Rebind(check.query), check.args...).Scan(&reason)
		switch {
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("check %s: %w", check.subject, err)
		case reason.String != "":
			return fmt.Errorf("%s %s", check.subject, reason.String)
		}
	}
	return nil
}

// Qualified is the quoted name of a table that exists, with its schema: it means
// the same table whatever a session's current schema is.
func Qualified(ctx context.Context, db *sql.DB, d *dialect.Dialect, table string) (string, error) {
	if d.SchemaOf == "" {
		return d.Table(table), nil
	}
	var schema string
	if err := db.QueryRowContext(ctx, d.Rebind(d.SchemaOf), table).Scan(&schema); err != nil {
		return "", fmt.Errorf("look up the schema of table %q: %w", table, err)
	}
	return d.Quote(schema) + "." + d.Quote(table), nil
}

// change runs one statement. It asks for no second try where "it exists already"
// cannot be told from a stale schema: Ensure looks again anyway.
func change(ctx context.Context, db *sql.DB, statement string) (failure error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	err := Retry(ctx, func() error {
		_, err := db.ExecContext(ctx, statement)
		if dialect.Classify(err) == dialect.Stale {
			failure = err
			return nil
		}
		return err
	})
	return errors.Join(failure, err)
}

// Missing returns the statements that would complete t, none when it is as it
// should be. It only reads.
func Missing(ctx context.Context, q Execer, d *dialect.Dialect, t Table) (statements []string, err error) {
	err = Retry(ctx, func() error {
		statements, err = missing(ctx, q, d, t)
		return err
	})
	return statements, err
}

func missing(ctx context.Context, q Execer, d *dialect.Dialect, t Table) ([]string, error) {
	have, err := columnsOf(ctx, q, d, t.Name)
	if err != nil {
		return nil, err
	}
	if len(have) == 0 {
		return append([]string{create(d, t)}, indexes(d, t, nil)...), nil
	}
	var statements, lacking []string
	for _, c := range t.Columns {
		switch {
		case slices.Contains(have, strings.ToLower(c.Name)):
		case c.Added:
			statements = append(statements, fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s",
				d.Table(t.Name), d.Quote(c.Name), c.Type))
		default:
			lacking = append(lacking, c.Name)
		}
	}
	if len(lacking) > 0 {
		return nil, fmt.Errorf("table %q exists but lacks the columns %s: it is not a table of this library",
			t.Name, strings.Join(lacking, ", "))
	}
	keys, err := uniqueOf(ctx, q, d, t.Name)
	if err != nil {
		return nil, err
	}
	return append(statements, indexes(d, t, keys)...), nil
}

func create(d *dialect.Dialect, t Table) string {
	columns := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		columns[i] = d.Quote(c.Name) + " " + c.Type
		if i == 0 {
			columns[i] += " PRIMARY KEY"
		}
	}
	return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (%s)%s", d.Table(t.Name), strings.Join(columns, ", "), d.TableOptions)
}

// indexes returns the statements for the unique keys of t that are not in have.
func indexes(d *dialect.Dialect, t Table, have [][]string) (statements []string) {
	for _, u := range t.Unique {
		if slices.ContainsFunc(have, func(k []string) bool { return slices.Equal(k, u.Columns) }) {
			continue
		}
		columns := make([]string, len(u.Columns))
		for i, c := range u.Columns {
			columns[i] = d.Quote(c)
		}
		statements = append(statements, fmt.Sprintf("CREATE UNIQUE INDEX %s ON %s (%s)",
			d.Table(indexName(d, t.Name, u.Suffix)), d.Quote(t.Name), strings.Join(columns, ", ")))
	}
	return statements
}

// indexName is unique in the database even where long names are cut short. It
// does not begin with the table's name: engines reserve prefixes ("sqlite_") that
// the name and the suffix may make up together.
func indexName(d *dialect.Dialect, table, suffix string) string {
	if name := "key_" + table + suffix; d.CheckIdentifier(name) == nil {
		return name
	}
	sum := sha256.Sum256([]byte(table))
	return "key_" + hex.EncodeToString(sum[:8]) + suffix
}

// columnsOf returns the table's column names in lower case.
func columnsOf(ctx context.Context, q Execer, d *dialect.Dialect, table string) (names []string, err error) {
	rows, err := Strings(ctx, q, 1, d.Rebind(d.ColumnsOf), table)
	if err != nil {
		return nil, fmt.Errorf("look up table %q: %w", table, err)
	}
	for _, row := range rows {
		names = append(names, strings.ToLower(row[0]))
	}
	return names, nil
}

// uniqueOf returns the column lists of the table's unique keys.
func uniqueOf(ctx context.Context, q Execer, d *dialect.Dialect, table string) (keys [][]string, err error) {
	rows, err := Strings(ctx, q, 2, d.Rebind(d.UniqueOf), table)
	if err != nil {
		return nil, fmt.Errorf("look up the keys of table %q: %w", table, err)
	}
	for i, row := range rows {
		if i == 0 || rows[i-1][0] != row[0] {
			keys = append(keys, nil)
		}
		last := &keys[len(keys)-1]
		*last = append(*last, strings.ToLower(row[1]))
	}
	return keys, nil
}

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

// Table describes a table. Ensure creates it if it is missing, and completes an older version of
// it.
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
	// Added: the column came in a later version, and is added to a table without it. A table that
	// lacks any other column is not one of this library.
	Added bool
}

// Unique is a unique key over columns.
type Unique struct {
	Suffix  string // the end of the index's name, after the table's name
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

// Ensure creates t or completes it, and returns what its last look at t has seen. Any number of
// processes may call it at once. It judges by looking again whether a statement has failed, and not
// by the error: on most engines the error cannot be told from another process's success.
//
// If the table cannot be created or completed, the error is a *MissingError. The causes are lack of
// rights, a read-only database, or others that keep the table locked. If the session or the table
// is unfit, Ensure does nothing.
//
// It works on q. A statement that is given up may take its connection along: then Ensure goes on
// with spare.
func Ensure(ctx context.Context, q, spare Execer, d *dialect.Dialect, t Table) (seen dialect.Sight, err error) {
	var missing []string
	took := time.Duration(0)
	look := func() (complete bool, err error) {
		start := time.Now()
		if seen, missing, err = t.look(ctx, q, d); errors.Is(err, sql.ErrConnDone) {
			q = spare
			seen, missing, err = t.look(ctx, q, d)
		}
		if err == nil {
			err = Unfit(seen, t.Name)
		}
		took = time.Since(start)
		return len(missing) == 0, err
	}
	if complete, err := look(); err != nil || complete {
		return seen, err
	}
	// A statement may show the need for the next one, and another process may do the same work. Two
	// passes are enough; the third is for the final look.
	var failure error
	for range 3 {
		failure = nil
		for _, statement := range missing {
			failure = errors.Join(failure, change(ctx, q, changeLimit+changeTrips*took, d.BoundedDDL+statement))
		}
		if complete, err := look(); err != nil || complete {
			return seen, err
		}
	}
	return seen, &MissingError{Table: t.Name, Absent: len(seen.Columns) == 0, SQL: missing, Cause: failure}
}

// changeLimit bounds one change, together with changeTrips times the duration of a look. A table
// that is in use works without the change, so the bound is short.
const (
	changeLimit = 2 * time.Second
	changeTrips = 4
)

// Unfit returns an error if elections cannot work in the session, or in the table of that name. The
// error says why.
func Unfit(seen dialect.Sight, table string) error {
	switch {
	case seen.UnfitSession != "":
		return fmt.Errorf("the session's setting %s", seen.UnfitSession)
	case seen.UnfitTable != "":
		return fmt.Errorf("table %q %s", table, seen.UnfitTable)
	}
	return nil
}

// Qualified is the quoted name of a table that was seen, with its schema. It means the same table
// whatever a session's current schema is.
func Qualified(d *dialect.Dialect, seen dialect.Sight, table string) string {
	if seen.Schema == "" {
		return d.Table(table)
	}
	return d.Quote(seen.Schema) + "." + d.Quote(table)
}

// change runs one statement. It does not try again after an error of class Stale, which may mean
// "it exists already": Ensure looks again anyway.
func change(ctx context.Context, q Execer, limit time.Duration, statement string) (failure error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := Retry(ctx, func() error {
		_, err := q.ExecContext(ctx, statement)
		if dialect.Classify(err) == dialect.Stale {
			failure = err
			return nil
		}
		return err
	})
	return errors.Join(failure, err)
}

// Missing returns the statements that would complete t, none if t is complete. It only reads.
func Missing(ctx context.Context, q Execer, d *dialect.Dialect, t Table) (statements []string, err error) {
	_, statements, err = t.look(ctx, q, d)
	return statements, err
}

// look is one Step: it may take as long as RetryLimit.
func (t Table) look(ctx context.Context, q Execer, d *dialect.Dialect) (seen dialect.Sight, missing []string, err error) {
	err = Step(ctx, func(ctx context.Context) error {
		seen, err = d.Look(ctx, q, t.Name)
		return err
	})
	if err == nil && seen.UnfitSession == "" {
		missing, err = t.missing(d, seen)
	}
	return seen, missing, err
}

// missing returns the statements that would complete t, if seen is what was seen of it.
func (t Table) missing(d *dialect.Dialect, seen dialect.Sight) ([]string, error) {
	if len(seen.Columns) == 0 {
		if d.KeysInTable {
			return []string{create(d, t)}, nil
		}
		return append([]string{create(d, t)}, indexes(d, t, nil)...), nil
	}
	var statements, lacking []string
	for _, c := range t.Columns {
		switch {
		case slices.Contains(seen.Columns, strings.ToLower(c.Name)):
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
	return append(statements, indexes(d, t, seen.Keys)...), nil
}

func create(d *dialect.Dialect, t Table) string {
	columns := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		columns[i] = d.Quote(c.Name) + " " + c.Type
		if i == 0 {
			columns[i] += " PRIMARY KEY"
		}
	}
	if d.KeysInTable {
		for _, u := range t.Unique {
			columns = append(columns, "CONSTRAINT "+d.Quote(indexName(d, t.Name, u.Suffix))+" UNIQUE ("+u.list(d)+")")
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
		statements = append(statements, fmt.Sprintf("CREATE UNIQUE INDEX %s ON %s (%s)",
			d.Table(indexName(d, t.Name, u.Suffix)), d.Quote(t.Name), u.list(d)))
	}
	return statements
}

// list is the key's columns, quoted.
func (u Unique) list(d *dialect.Dialect) string {
	columns := make([]string, len(u.Columns))
	for i, c := range u.Columns {
		columns[i] = d.Quote(c)
	}
	return strings.Join(columns, ", ")
}

// indexName is unique in the database, even if long names are cut short. It does not begin with the
// table's name: engines reserve prefixes ("sqlite_"), which the table's name and the suffix could
// form together.
func indexName(d *dialect.Dialect, table, suffix string) string {
	if name := "key_" + table + suffix; d.CheckIdentifier(name) == nil {
		return name
	}
	sum := sha256.Sum256([]byte(table))
	return "key_" + hex.EncodeToString(sum[:8]) + suffix
}

package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// sql replaces % by the table's name, and each ? by the engine's placeholder.
func (t *Table) sql(query string) string {
	return strings.Replace(t.dialect.Rebind(query), "%", t.quoted, 1)
}

// exec runs s, and returns s.IfNoRow if it found no row.
func (e Election) exec(ctx context.Context, q sqldb.Execer, s dialect.Statement) error {
	query, args := s.Query()
	n, err := sqldb.Exec(ctx, q, e.sql(query), e.dialect.Args(args...)...)
	if err == nil && n == 0 {
		err = s.IfNoRow
	}
	return err
}

func (t *Table) query(ctx context.Context, query string, args []any, each func(*sql.Rows) error) error {
	query, args = t.dialect.LinearizableSelect(query, args...)
	return sqldb.OnConn(ctx, t.db, t.dialect, func(q sqldb.Execer) error { return eachRow(ctx, q, t.sql(query), args, each) })
}

func eachRow(ctx context.Context, q sqldb.Execer, query string, args []any, each func(*sql.Rows) error) (err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// insertRow adds a row to the table unless r exists, and reports whether it did.
func (e Election) insertRow(ctx context.Context, q sqldb.Execer, r row, values newRow) (bool, error) {
	const draws = 20 // of an id; each draw meets a taken id with a chance of rows / 2³¹
	for range draws {
		query, args := e.insertOf(values).Query()
		n, err := sqldb.Exec(ctx, q, e.sql(query), e.dialect.Args(args...)...)
		if err != nil || n > 0 || values["id"] != nil {
			return n > 0, err
		}
		switch n, err := e.count(ctx, q, r); {
		case err != nil || n > 0:
			return false, err
		}
	}
	return false, fmt.Errorf("no free id for a row of %v", e)
}

func (v newRow) columns() []string { return slices.Sorted(maps.Keys(v)) }

// args are the values in the order of columns. If the id is nil, a new one is drawn.
func (v newRow) args() (args []any) {
	for _, column := range v.columns() {
		arg := v[column]
		if column == "id" && arg == nil {
			arg = NewID()
		}
		args = append(args, arg)
	}
	return args
}

func (e Election) insertOf(values newRow) dialect.Statement {
	columns := values.columns()
	return dialect.Statement{
		Write: e.dialect.InsertNew + " % (" + strings.Join(columns, ", ") + ")", Values: parameters(len(columns)), Args: values.args(),
		Existing: e.dialect.SkipExisting,
	}
}

func (e Election) count(ctx context.Context, q sqldb.Execer, r row) (n int64, err error) {
	query, args := e.dialect.LinearizableSelect("SELECT COUNT(*) FROM % WHERE "+r.where, r.args...)
	err = q.QueryRowContext(ctx, e.sql(query), args...).Scan(&n)
	return n, err
}

// in is a list of n parameters.
func in(n int) string { return "(" + parameters(n) + ")" }

// parameters is in without brackets.
func parameters(n int) string { return "?" + strings.Repeat(", ?", n-1) }

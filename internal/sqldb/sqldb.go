// Package sqldb runs statements and transactions with retries, creates and
// grows tables, and opens databases by DSN. What differs between databases it
// asks of package dialect.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sqlelect/election/internal/dialect"
)

// RetryLimit bounds Retry under a ctx without a deadline.
const RetryLimit = 10 * time.Second

// staleTries is how often Retry lets an attempt fail with class Stale.
const staleTries = 20

// Retry runs attempt until it returns something other than an error of class
// Retry, or until ctx ends or, without a deadline in ctx, RetryLimit has passed;
// after an error of class Stale a few times. Attempt must leave nothing behind
// when it fails.
//
// Waiting is done here and not by a lock timeout of the engine's: the user's DSN
// may set any or none, and a session setting of ours would outlive the call.
func Retry(ctx context.Context, attempt func() error) error {
	if _, bounded := ctx.Deadline(); !bounded {
		limited, cancel := context.WithTimeout(ctx, RetryLimit)
		defer cancel()
		ctx = limited
	}
	var lost error // the last conflict: why a ctx that ended had to be waited for
	for stale := 0; ; {
		err := attempt()
		switch class := dialect.Classify(err); {
		case class == dialect.Retry:
			lost = err
		case class == dialect.Stale && stale < staleTries:
			stale++
		case err != nil && lost != nil && ctx.Err() != nil:
			return fmt.Errorf("%w; before that: %w", err, lost)
		default:
			return err
		}
		if waitErr := Backoff(ctx); waitErr != nil {
			return fmt.Errorf("%w; last attempt: %w", waitErr, err)
		}
	}
}

// Backoff waits 1 to 5 ms, or returns ctx.Err() once ctx has ended. Short and
// random: lock queues of SQLite are unfair, and whoever asks more often wins.
func Backoff(ctx context.Context) error {
	timer := time.NewTimer(time.Millisecond + rand.N(4*time.Millisecond))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return ctx.Err()
	}
}

// InTx runs body in a transaction, and again in a new one while the error is of
// class Retry: body must have no effects of its own. An error of COMMIT that is
// not of that class means that the outcome is unknown.
func InTx(ctx context.Context, db *sql.DB, body func(tx *sql.Tx) error) error {
	return Retry(ctx, func() error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		// Also on a panic of body; after a COMMIT it does nothing.
		defer func() { _ = tx.Rollback() }()
		if err := body(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// Execer is a *sql.DB, *sql.Conn or *sql.Tx.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Exec runs one statement and returns how many rows it matched.
func Exec(ctx context.Context, q Execer, query string, args ...any) (int64, error) {
	result, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Strings collects the rows of a query of width text columns.
func Strings(ctx context.Context, q Execer, width int, query string, args ...any) (rows [][]string, err error) {
	result, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, result.Close()) }()
	for result.Next() {
		row, dest := make([]string, width), make([]any, width)
		for i := range row {
			dest[i] = &row[i]
		}
		if err := result.Scan(dest...); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, result.Err()
}

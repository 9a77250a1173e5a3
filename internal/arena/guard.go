package arena

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/sqlelect/election"
)

// querier is a transaction, of database/sql or gorm's.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// guard runs fn in a transaction that only the leader id can commit, in the term
// that ctx carries.
type guard func(ctx context.Context, id string, fn func(tx querier) error) error

// openStorage opens the election's table, and creates it where it is missing. It
// also returns the guard of that storage.
func openStorage(l *Ledger, orm bool, timeout time.Duration) (election.Storage, guard, error) {
	if orm {
		s, err := election.NewORMStorageFromSQLDB(l.DB, l.prefix+electionTable)
		if err != nil {
			return nil, nil, err
		}
		s = s.WithGuardTimeout(timeout)
		return s, func(ctx context.Context, id string, fn func(querier) error) error {
			return s.TxnWithLeaderLock(ctx, id, func(tx *gorm.DB) error { return fn(tx.Statement.ConnPool) })
		}, nil
	}
	s, err := election.NewSQLStorage(l.DB, l.prefix+electionTable)
	if err != nil {
		return nil, nil, err
	}
	s = s.WithGuardTimeout(timeout)
	return s, func(ctx context.Context, id string, fn func(querier) error) error {
		return s.TxnWithLeaderLock(ctx, id, func(tx *sql.Tx) error { return fn(tx) })
	}, nil
}

// noGuard is what a program without the guard does: it takes its own word for it
// that it leads. The verdict must find that out.
func noGuard(db *sql.DB) guard {
	return func(ctx context.Context, _ string, fn func(querier) error) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // without effect after the commit
		if err := fn(tx); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("%w: %w", election.ErrOutcomeUnknown, err)
		}
		return nil
	}
}

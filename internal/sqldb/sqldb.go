// Package sqldb runs statements and transactions with retries, creates and grows tables, and opens
// databases by DSN. Package dialect tells it how databases differ.
package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sqlelect/election/internal/dialect"
)

// RetryLimit bounds Retry under a ctx without a deadline.
const RetryLimit = 10 * time.Second

// staleTries is how often Retry lets an attempt fail with class Stale.
const staleTries = 100

// Retry runs attempt again while the class of its error is Undone, and up to staleTries times after
// errors of class Stale. It gives up when ctx ends. If ctx has no deadline, it gives up after
// RetryLimit. Attempt must leave nothing behind when it fails.
//
// Retry waits here and not by a lock timeout of the engine's: the user's DSN may set any or none,
// and a session setting of the library would outlive the call.
func Retry(ctx context.Context, attempt func() error) error {
	if _, bounded := ctx.Deadline(); !bounded {
		limited, cancel := context.WithTimeout(ctx, RetryLimit)
		defer cancel()
		ctx = limited
	}
	var lost error // the last conflict: what the call was waiting for when ctx ended
	for stale := 0; ; {
		err := attempt()
		switch class := dialect.Classify(err); {
		case class.Undone():
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

// Step is Retry for an attempt that may itself take long: RetryLimit bounds the attempt, too. Work
// of several steps has no bound of its own: it goes on as long as each step comes to an end.
func Step(ctx context.Context, attempt func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, RetryLimit)
	defer cancel()
	return Retry(ctx, func() error { return attempt(ctx) })
}

// Connect returns a connection of db's, within a Step.
func Connect(ctx context.Context, db *sql.DB) (conn *sql.Conn, err error) {
	err = Step(ctx, func(ctx context.Context) error {
		conn, err = db.Conn(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return conn, nil
}

// Backoff waits 1 to 5 ms, or returns ctx.Err() once ctx has ended. The wait is short and random:
// SQLite's lock is unfair, and the process that asks more often wins.
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

// TxOptions are what a transaction is begun with.
type TxOptions struct {
	Isolation sql.IsolationLevel
	// Prepare, if not nil, makes the connection ready before BEGIN, for waits of at most Wait.
	// Restore undoes that in the end.
	Prepare func(ctx context.Context, conn *sql.Conn, wait time.Duration) (restore func() error, err error)
	Wait    time.Duration
	// Committed, if not nil, is called as soon as COMMIT has succeeded.
	Committed func()
	// Savepoint, if not "", names a savepoint that tells before the COMMIT whether the transaction
	// is still the one that was begun.
	Savepoint string
}

// InTx runs body in a transaction. While the error's class is Undone, it runs body again in a new
// transaction, so body must have no other effects. If COMMIT fails with an error of another class,
// the outcome is unknown.
func InTx(ctx context.Context, db *sql.DB, options TxOptions, body func(tx *sql.Tx) error) error {
	return Retry(ctx, func() (err error) {
		_ = RetryBadConn(db, func() error {
			begun := false
			err = pinned(ctx, db, func(conn *sql.Conn) error {
				return inTx(ctx, conn, options, func(tx *sql.Tx) error {
					begun = true
					return body(tx)
				})
			})
			if begun && dialect.Classify(err) != dialect.Elsewhere { // not once more: body may have had effects
				return nil
			}
			return err
		})
		return err
	})
}

// ChangeInOneTrip is Dialect.ChangeInOneTrip on a connection of db's. It does not retry.
func ChangeInOneTrip(ctx context.Context, db *sql.DB, d *dialect.Dialect, t dialect.BatchedChange) error {
	if !d.ChangesInOneTrip() { // known without a connection
		return errors.ErrUnsupported
	}
	return OnConn(ctx, db, d, func(conn Execer) error { return d.ChangeInOneTrip(ctx, conn.(*sql.Conn), t) })
}

// OnConn runs statement, which sends one statement, on a connection of db's. If it fails because
// its server takes no writes, OnConn runs it on another connection. The statement does not wait
// long for locks, whatever the DSN says: the caller asks again (Retry), and so notices the end of
// ctx. The connection goes back as it was.
func OnConn(ctx context.Context, db *sql.DB, d *dialect.Dialect, statement func(conn Execer) error) error {
	return RetryBadConn(db, func() error {
		return pinned(ctx, db, func(conn *sql.Conn) error {
			restore, err := d.Hasten(ctx, conn)
			defer func() {
				if restore() != nil {
					dialect.Discard(conn)
				}
			}()
			if err != nil {
				return err
			}
			return statement(conn)
		})
	})
}

// pinned runs f on a connection of db's. If the connection's server takes no writes, the connection
// does not return to the pool. There it would wait for the next writer, while a new connection may
// lead to the server that takes writes now.
func pinned(ctx context.Context, db *sql.DB, f func(conn *sql.Conn) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // fails for a discarded connection
	err = f(conn)
	if dialect.Classify(err) == dialect.Elsewhere {
		dialect.Discard(conn)
	}
	return err
}

// RetryBadConn calls begin, and calls it again while it fails for one of two reasons: the server
// has closed the pooled connection meanwhile, or the connection leads to a server that takes no
// writes any more. It tries as often as the pool may hold such connections, and once more on a new
// one. It is for pinned connections. Of other connections, database/sql notices by itself that they
// are closed; nothing notices that a server takes no writes. Begin must not fail for these reasons
// once it has had effects. When it fails for one of them, it has discarded the connection.
func RetryBadConn(db *sql.DB, begin func() error) error {
	var err error
	for tries := 2 + db.Stats().Idle; tries > 0; tries-- {
		err = begin()
		if !errors.Is(err, driver.ErrBadConn) && dialect.Classify(err) != dialect.Elsewhere {
			break
		}
	}
	return err
}

func inTx(ctx context.Context, conn *sql.Conn, options TxOptions, body func(tx *sql.Tx) error) (err error) {
	if options.Prepare != nil {
		restore, err := options.Prepare(ctx, conn, options.Wait)
		// Restore closes what it cannot restore. Its error is ignored: a commit stands, whatever
		// comes after.
		defer func() { _ = restore() }()
		if err != nil {
			return err
		}
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: options.Isolation})
	if err != nil {
		if options.Isolation != sql.LevelDefault {
			dialect.Discard(conn) // drivers set the level first, and it would stay for the next transaction
		}
		return err
	}
	// Also on a panic of body; after a COMMIT it does nothing.
	defer func() { _ = tx.Rollback() }()
	if err := checkSameTransaction(ctx, tx, options.Savepoint, body); err != nil {
		return err
	}
	err = dialect.Unheard(tx.Commit())
	if err == nil && options.Committed != nil {
		options.Committed()
	}
	return err
}

// checkSameTransaction runs body. It fails if the transaction in the end is another one than at the
// beginning.
func checkSameTransaction(ctx context.Context, tx *sql.Tx, savepoint string, body func(tx *sql.Tx) error) error {
	if savepoint == "" {
		return body(tx)
	}
	if _, err := tx.ExecContext(ctx, "SAVEPOINT "+savepoint); err != nil {
		return err
	}
	if err := body(tx); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "RELEASE SAVEPOINT "+savepoint)
	if err != nil && dialect.Classify(err) == dialect.Unknown {
		return dialect.TransactionLost(err)
	}
	return err
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

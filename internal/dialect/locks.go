package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// ErrNoLocks means that the server does not lock rows as the guard needs, although it speaks the
// protocol of a supported engine.
var ErrNoLocks = errors.New("the database engine is not supported: it does not keep what one transaction has written from another one's lock")

// CheckLocks returns an error if the server does not lock the rows of the quoted table as the guard
// needs. Conn is a connection of db, and must not be used afterwards. Row is the end of an INSERT:
// the columns, among them the integer key id, and their values, with a question mark for id.
//
// The trial: a row that one transaction has inserted, and not committed, must not be free for the
// shared lock of another one. The INSERT is undone when its connection is closed, at no round trip.
// In these cases there is nothing to try, and no error:
//
//   - The version that the server reports can only be that of a supported engine.
//   - The pool has no second connection.
//   - This user may not write. Such a user can lose nothing.
func (d *Dialect) CheckLocks(ctx context.Context, db *sql.DB, conn *sql.Conn, table, row string) error {
	if !d.unsure || db.Stats().MaxOpenConnections == 1 {
		return nil
	}
	other, err := db.Conn(ctx) // before the trial: the error "too many connections" says nothing about locks
	if err != nil {
		return fmt.Errorf("try a lock: %w", err)
	}
	defer func() { _ = other.Close() }() // fails for a broken connection
	id := strconv.Itoa(1<<20 + rand.IntN(math.MaxInt32-1<<20))
	defer Discard(conn)
	for _, statement := range []string{"BEGIN", "INSERT INTO " + table + strings.Replace(row, "?", id, 1)} {
		_, err := conn.ExecContext(ctx, statement)
		switch class := Classify(err); {
		case class == Fatal || class == Unusable:
			return nil
		case err != nil:
			return fmt.Errorf("try a lock: %w", err)
		}
	}
	// MySQL reads the first comment. MariaDB has other words for it: it skips the first comment and
	// reads the second.
	lock := "SELECT COUNT(*) FROM " + table + " WHERE id = " + id + " /*!80000 FOR SHARE NOWAIT */ /*M! LOCK IN SHARE MODE NOWAIT */"
	err = other.QueryRowContext(ctx, lock).Scan(new(int))
	switch _, answered := mysqlNumber(err); {
	case err == nil:
		return ErrNoLocks
	case Classify(err) == Retry:
		return nil
	case answered:
		return fmt.Errorf("%w: %w", ErrNoLocks, err)
	}
	return fmt.Errorf("try a lock: %w", err)
}

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

// CheckLocks returns an error if the server does not lock the rows of that quoted table
// as the guard needs. It asks only where the name that the server calls itself by says too
// little; where this user may not write, so that nothing can be lost; and where there is a
// second connection. Conn, of db's pool, is used up. Row is what an INSERT adds, with its columns, the integer key id
// among them: a question mark stands for its value.
//
// A row that one transaction has inserted, and not committed, must not be free for the
// shared lock of another one. What happens is undone as the connection ends, at no
// round trip.
func (d *Dialect) CheckLocks(ctx context.Context, db *sql.DB, conn *sql.Conn, table, row string) error {
	if !d.unsure || db.Stats().MaxOpenConnections == 1 {
		return nil
	}
	other, err := db.Conn(ctx) // first: that there are too many says nothing of locks
	if err != nil {
		return fmt.Errorf("try a lock: %w", err)
	}
	defer func() { _ = other.Close() }() // fails for one that has broken
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
	// MariaDB, which has other words for it, passes over the first comment and reads the second.
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

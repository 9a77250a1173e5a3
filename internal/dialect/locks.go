package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
)

// errNoLocks: whoever speaks so like another engine is a relative of it, and the guard
// would not hold there.
var errNoLocks = errors.New("the database engine is not supported: what one transaction has written, another one may lock")

// CheckLocks returns an error if the server does not lock the rows of that quoted table
// as the guard needs. It asks only where the name that the server calls itself by says too
// little; where this user may not write, so that nothing can be lost; and where there is a
// second connection. Conn, of db's pool, is used up.
//
// A row that one transaction has inserted, and not committed, must not be free for the
// shared lock of another one. What happens is undone as the connection ends, at no
// round trip.
func (d *Dialect) CheckLocks(ctx context.Context, db *sql.DB, conn *sql.Conn, table string) error {
	if !d.unsure || db.Stats().MaxOpenConnections == 1 {
		return nil
	}
	id := strconv.Itoa(1<<20 + rand.IntN(math.MaxInt32-1<<20))
	defer Discard(conn)
	for _, statement := range []string{"BEGIN", "INSERT INTO " + table + " (id, leader_id, version) VALUES (" + id + ", '', 0)"} {
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
	err := db.QueryRowContext(ctx, lock).Scan(new(int))
	switch {
	case err == nil:
		return errNoLocks
	case Classify(err) == Retry:
		return nil
	case Classify(err) == Fatal:
		return fmt.Errorf("%w: %w", errNoLocks, err)
	}
	return fmt.Errorf("try a lock: %w", err)
}

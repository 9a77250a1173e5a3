package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strconv"
)

// poolerKey is the key under which a connection of pgx's remembers what behindPooler found.
const poolerKey = "github.com/sqlelect/election: behind a pooler"

// behindPooler reports whether conn leads to a pooler. When a connection is opened, the server
// tells it the ID of its process. A pooler tells its clients an ID of its own, which is not the ID
// of the process that answers. For connections that are not pgx's, behindPooler reports false. It
// asks once for each connection.
func behindPooler(ctx context.Context, conn *sql.Conn) (pooled bool, err error) {
	err = conn.Raw(func(dc any) error {
		c, ok := pgxOf(dc)
		if !ok {
			return nil
		}
		pg := c.PgConn()
		if pooled, ok = pg.CustomData()[poolerKey].(bool); ok {
			return nil
		}
		results, err := pg.Exec(ctx, "SELECT pg_backend_pid()").ReadAll()
		switch {
		case err != nil && pg.IsClosed() && ctx.Err() == nil:
			return driver.ErrBadConn // the connection was dead
		case err != nil:
			return fmt.Errorf("look for a pooler: %w", err)
		}
		pooled = string(results[0].Rows[0][0]) != strconv.FormatUint(uint64(pg.PID()), 10)
		pg.CustomData()[poolerKey] = pooled
		return nil
	})
	return pooled, err
}

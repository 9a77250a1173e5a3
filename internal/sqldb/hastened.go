package sqldb

import (
	"context"
	"database/sql"

	"github.com/sqlelect/election/internal/dialect"
)

// Hastened runs attempt on a connection of db's whose statements do not wait for locks for
// long, whatever the DSN says: the caller asks again (Retry), and heeds the end of ctx. The
// connection goes back as it was.
func Hastened(ctx context.Context, db *sql.DB, d *dialect.Dialect, attempt func(q Execer) error) error {
	if !d.Hastens() {
		return attempt(db)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // fails for one that was discarded
	restore, err := d.Hasten(ctx, conn)
	defer func() { _ = restore() }() // what it cannot restore it closes
	if err != nil {
		return err
	}
	return attempt(conn)
}

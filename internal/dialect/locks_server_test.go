package dialect_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
)

// A server that locks rows passes the trial, and the trial leaves nothing behind. A table whose
// engine locks no rows does not pass. MariaDB understands the statements for MySQL.
func TestCheckLocks(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "mysql" {
			t.Skip("its name says enough")
		}
		handle := db.Open(t)
		for engine, locks := range map[string]bool{"InnoDB": true, "MyISAM": false} {
			dbtest.Exec(t, handle, "CREATE TABLE "+engine+" (id BIGINT PRIMARY KEY, leader_id VARCHAR(255), version BIGINT) ENGINE="+engine)
			conn, err := handle.Conn(t.Context())
			require.NoError(t, err)
			err = dialect.MySQL().CheckLocks(t.Context(), handle, conn, engine, " (id, leader_id, version) VALUES (?, '', 0)")
			if locks {
				require.NoError(t, err)
				require.Zero(t, dbtest.Count(t, handle, engine))
			} else {
				require.ErrorIs(t, err, dialect.ErrNoLocks)
			}
		}
		require.NoError(t, dialect.MariaDB().CheckLocks(t.Context(), handle, nil, "none", ""), "its name says enough")
	})
}

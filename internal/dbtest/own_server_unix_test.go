//go:build unix

package dbtest_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

func TestOwnServerKeepsItsDataAndPort(t *testing.T) {
	t.Parallel()
	for engine, schema := range map[string]string{"mysql": "DATABASE", "postgres": "SCHEMA"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			server := dbtest.RequireServer(t, engine)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			// A new handle each time: one from before has connections that are dead.
			open := func() *sql.DB {
				db, err := sql.Open(server.Driver, server.DSN)
				require.NoError(t, err)
				t.Cleanup(func() { _ = db.Close() })
				return db
			}
			db := open()
			dbtest.Exec(t, db, "CREATE "+schema+" x")
			dbtest.Exec(t, db, "CREATE TABLE x.y (n integer)")
			for i, end := range []func(context.Context) error{server.Kill, server.Stop} {
				dbtest.Exec(t, open(), "INSERT INTO x.y VALUES (1)")
				require.NoError(t, end(ctx))
				requireGone(t, server.Driver, server.DSN)
				require.NoError(t, server.Start(ctx))
				require.Equal(t, i+1, dbtest.Count(t, open(), "x.y"))
			}
		})
	}
}

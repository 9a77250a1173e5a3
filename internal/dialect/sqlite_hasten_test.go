package dialect_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
)

// If the ctx is over, Hasten fails, and the connection can be restored all the same.
func TestHastenUnderACtxThatIsOver(t *testing.T) {
	t.Parallel()
	conn, err := dbtest.SQLite(t).Open(t).Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "PRAGMA busy_timeout = 4321")
	require.NoError(t, err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	restore, err := dialect.SQLite().Hasten(over, conn)
	require.Error(t, err)
	require.NoError(t, restore())
	var ms int
	require.NoError(t, conn.QueryRowContext(t.Context(), "PRAGMA busy_timeout").Scan(&ms))
	require.Equal(t, 4321, ms)
	require.NoError(t, conn.Close())
}

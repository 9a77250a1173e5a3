package election_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
)

// In memory, without a name, each connection of a pool is a database of its own: an election
// there would be lost with the first connection that finds no table.
func TestPrivateMemoryNeedsAPoolOfOne(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{":memory:", ""} {
		db, err := sql.Open("sqlite", dsn)
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		_, err = election.NewSQLStorage(db, "")
		require.ErrorContains(t, err, "use NewInMemorySQLStorage, or SetMaxOpenConns(1)", dsn)
		db.SetMaxOpenConns(1)
		_, err = election.NewSQLStorage(db, "")
		require.NoError(t, err, dsn)
	}
}

package election_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// What it takes to open a storage.

// openingKinds are the ways to open a storage on a handle.
func openingKinds() map[string]func(*sql.DB) (election.Storage, error) {
	return map[string]func(*sql.DB) (election.Storage, error){
		"SQLStorage": func(db *sql.DB) (election.Storage, error) { return election.NewSQLStorage(db, "") },
		"ORMStorage": func(db *sql.DB) (election.Storage, error) { return election.NewORMStorageFromSQLDB(db, "") },
	}
}

// Links may be slow: opening takes six round trips at most on a connection that is there,
// whether it finds the table or has to create it, and opens no other connection.
func TestOpeningTakesSixRoundTrips(t *testing.T) {
	t.Parallel()
	const most = 6
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if engine(t, db.Open(t)) == "MySQL" {
			t.Skip("a second connection tries a lock")
		}
		for name, open := range openingKinds() {
			fresh := db.Fresh(t)
			for _, found := range []string{"creates", "finds"} {
				behind, proxy := fresh.Behind(t)
				handle := behind.Open(t)
				require.NoError(t, handle.Ping())
				proxy.Delay(5 * time.Millisecond) // so that what is sent together is counted together
				before := proxy.Trips()
				_, err := open(handle)
				require.NoError(t, err)
				t.Logf("%s %s the table: %d", name, found, proxy.Trips()-before)
				assert.LessOrEqual(t, proxy.Trips()-before, int64(most), "%s %s the table", name, found)
				require.Equal(t, 1, proxy.Links())
			}
		}
	})
}

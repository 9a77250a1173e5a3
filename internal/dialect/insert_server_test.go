package dialect_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// An INSERT that finds its key taken changes nothing and counts no row, even if the driver counts
// found rows instead of changed ones.
func TestInsertSkipsExistingRows(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		for name, d := range fences(db) {
			handle := db.Fresh(t).Open(t)
			dbtest.Exec(t, handle, "CREATE TABLE l (id INTEGER PRIMARY KEY, name "+d.Types.Name+" UNIQUE)")
			insert := func(id int, value string) int64 {
				result, err := handle.Exec(d.Rebind(d.InsertNew+" l (id, name) VALUES (?, ?) "+d.SkipExisting), id, value)
				require.NoError(t, err, name)
				n, err := result.RowsAffected()
				require.NoError(t, err, name)
				return n
			}
			require.Equal(t, int64(1), insert(1, "a"), name)
			require.Zero(t, insert(1, "a"), "%s: the same row", name)
			require.Zero(t, insert(1, "b"), "%s: the primary key is taken", name)
			require.Zero(t, insert(2, "a"), "%s: the other key is taken", name)
			require.Equal(t, int64(1), insert(2, "A"), name)
			var stored sql.NullString
			require.NoError(t, handle.QueryRow("SELECT name FROM l WHERE id = 1").Scan(&stored))
			require.Equal(t, "a", stored.String, name)
		}
	})
}

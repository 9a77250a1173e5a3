package election_test

import (
	"database/sql"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// FuzzRecordJSON: whatever stands in the column, Scan returns a record or an
// error; what it returned can be stored, and comes back as it is.
func FuzzRecordJSON(f *testing.F) {
	for _, file := range []string{"older", "newer", "future"} {
		text, err := os.ReadFile("testdata/record_" + file + ".json")
		require.NoError(f, err)
		f.Add(text)
	}
	for _, text := range []string{"", "null", "{}", "[]", `{"members":[null,{"id":""},{"id":"a"},{"id":"a"}]}`, `{"leader_id":"\ud800"}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, second election.Record
		if err := first.Scan(text); err != nil {
			require.Zero(t, first, "an error leaves the record as it was")
			return
		}
		require.Zero(t, first.Version)
		require.False(t, first.Unguarded)
		ids := map[string]bool{}
		for _, m := range first.Members {
			require.NotEmpty(t, m.ID)
			require.False(t, ids[m.ID], "twice %q", m.ID)
			ids[m.ID] = true
		}
		stored, err := first.Value()
		require.NoError(t, err)
		require.NoError(t, second.Scan(stored))
		again, err := second.Value()
		require.NoError(t, err)
		require.Equal(t, stored, again)
	})
}

// FuzzTableName: any name is refused or becomes that one table.
func FuzzTableName(f *testing.F) {
	for _, name := range []string{"election", "", "a b", `"`, `";DROP TABLE other;--`, "a.b", "'", "?", "%s", "sqlite_x", "sqlite", "é"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		db := dbtest.SQLite(t).OpenSingle(t)
		dbtest.Exec(t, db, "CREATE TABLE other (x)")
		s, err := election.NewSQLStorage(db, name)
		if err != nil {
			return
		}
		mustLead(t, s, "a")
		require.NoError(t, s.TxnWithLeaderLock(t.Context(), "a", func(*sql.Tx) error { return nil }))
		mustLead(t, s.Election("shard"), "b")
		if name == "" {
			name = election.TableNameElection
		}
		var n int
		require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?", name).Scan(&n))
		require.Equal(t, 1, n, "%q", name)
		require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table'").Scan(&n))
		require.Equal(t, 2, n, "%q", name)
	})
}

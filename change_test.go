package election

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// Who comes too late to create the record is told so by one statement, outside of any
// transaction.
func TestLateCreatorsLockNothing(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		s, err := NewSQLStorage(handle, "")
		require.NoError(t, err)
		for _, e := range []*SQLStorage{s, s.Election("shard")} {
			own := func(id string) *Member { return &Member{ID: id, Nonce: "n", Renewals: 1} }
			require.NoError(t, e.UpdateWithMember(t.Context(), &Record{LeaderID: "a", Term: 1}, true, nil, own("a")))
			statements.Take()
			require.ErrorIs(t, e.UpdateWithMember(t.Context(), &Record{LeaderID: "b", Term: 1}, true, nil, own("b")), ErrRecordConflict)
			require.Len(t, statements.Take(), 1)
			require.NoError(t, e.UpdateMember(t.Context(), nil, own("b")))
			require.Len(t, statements.Take(), 1, "a member joins in one statement")
		}
	})
}

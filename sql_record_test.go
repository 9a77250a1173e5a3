package election

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/batch"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/rows"
)

// Members of one election in one process that look at all others share one picture. What a user
// of the storage gets is the user's own.
func TestGetMembersReturnsCopies(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		s, err := NewSQLStorage(db.Open(t), "")
		require.NoError(t, err)
		for _, e := range []*SQLStorage{s, s.Election("shard")} {
			for _, id := range []string{"b", "a"} {
				require.NoError(t, e.UpdateMember(t.Context(), nil, &Member{ID: id, Nonce: "n", Renewals: 1, Labels: map[string]string{"k": "v"}}))
			}
			ctx := batch.WithWait(t.Context(), 50*time.Millisecond)
			found := make([][]*Member, 3)
			var asking sync.WaitGroup
			for i := range found {
				asking.Go(func() {
					members, err := e.GetMembers(ctx)
					assert.NoError(t, err)
					members[0].Labels["k"], members[1] = fmt.Sprint(i), nil
					found[i] = members
				})
			}
			asking.Wait()
			for i, members := range found {
				require.Equal(t, fmt.Sprint(i), members[0].Labels["k"])
			}
		}
	})
}

// A picture is sorted, has a roster, and leaves out what nobody could have written.
func TestPicture(t *testing.T) {
	t.Parallel()
	p := pictureOf([]rows.Entry{
		{ID: "b", Text: `{"id":"b"}`}, {ID: "a", Text: `{"id":"a"}`}, {ID: "c", Text: `{"id":"another"}`}, {ID: "d", Text: "spoilt"}, {ID: "a", Text: `{"id":"a"}`},
	}).(picture)
	require.Len(t, p.members, 2)
	require.Equal(t, "a", p.members[0].ID)
	require.Equal(t, rosterOf(p.members), p.roster)
	require.NotEqual(t, p.roster, rosterOf(p.members[:1]))
}

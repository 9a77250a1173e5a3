package election_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
)

// A program may change the Leadership that it is given: the reign that a ctx carries stays as it was.
func TestLeadershipOfAContextIsACopy(t *testing.T) {
	t.Parallel()
	given := election.Leadership{Leader: &election.Member{ID: "a", Labels: map[string]string{"zone": "1"}}, Term: 7}
	ctx := election.ContextWithLeadership(context.Background(), given)
	given.Leader.ID, given.Leader.Labels["zone"] = "changed", "changed"

	got, ok := election.LeadershipFromContext(ctx)
	require.True(t, ok)
	require.Equal(t, "a", got.Leader.ID)
	got.Leader.ID, got.Leader.Labels["zone"] = "changed", "changed"

	again, _ := election.LeadershipFromContext(ctx)
	require.Equal(t, "a", again.Leader.ID)
	require.Equal(t, "1", again.Leader.Labels["zone"])

	none, ok := election.LeadershipFromContext(context.Background())
	require.False(t, ok)
	require.Nil(t, none.Leader)
}

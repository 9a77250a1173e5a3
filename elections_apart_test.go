package election_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// Elections of one table do not meet, whatever they are called.
func TestElectionsInOneTable(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t)
			handle := db.Open(t)
			names := []string{"", "shard", "Shard", "shard ", "schärd", "'; DROP TABLE election; --"}
			electors := make([]*partyMember, 0, len(names))
			for _, name := range names {
				s, err := kind.open(handle, "", name)
				require.NoError(t, err)
				electors = append(electors, p.join("m", s, func(c *election.Config) { c.LeaderCallback = stay }))
			}
			for _, e := range electors {
				waitFor(t, time.Minute, "each leads its election", e.IsLeader)
			}
			require.NoError(t, electors[1].ResignLeader(t.Context(), time.Hour))
			require.Equal(t, len(names)-1, len(p.leaders()))
		})
	})
}

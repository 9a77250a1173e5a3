package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

var pairRaces = flag.Int("pair-races", 200, "how many changes of leader guarded transactions race on a primary")

// changeOfLeader makes id the leader, as an elector does but for the lease, on which the
// promise of a guarded transaction does not rest.
func changeOfLeader(ctx context.Context, s *election.SQLStorage, id string) (term uint64, err error) {
	r, err := s.Get(ctx)
	if err != nil {
		return 0, err
	}
	r.LeaderID = id
	r.Term++
	return r.Term, s.Update(ctx, r, true)
}

// Of guarded transactions and a change of leader at the same moment, none of those that
// are committed after the change is of the term before.
func TestPairRaces(t *testing.T) {
	t.Parallel()
	const guardedAtOnce = 3
	w := newPairWorld(t)
	ids := [2]string{"a", "b"}
	storages := [2]*election.SQLStorage{w.storage(w.open(w.pair.DSN())), w.storage(w.open(w.pair.DSN()))}
	term, err := changeOfLeader(t.Context(), storages[0], ids[0])
	require.NoError(t, err)
	var mu sync.Mutex
	outcomes := map[string]int{}
	for n := range *pairRaces {
		from, to := n%2, (n+1)%2
		var running sync.WaitGroup
		ctx := election.ContextWithLeadership(t.Context(), election.Leadership{Leader: &election.Member{ID: ids[from]}, Term: term})
		for range guardedAtOnce {
			work := fmt.Sprintf("SELECT pg_sleep(%f)", rand.Float64()*0.003)
			running.Go(func() {
				outcome := "committed"
				switch err := w.write(ctx, storages[from], ids[from], term, work); {
				case errors.Is(err, election.ErrNotLeader):
					outcome = "refused"
				case election.IsRetryable(err):
					outcome = "lost"
				default:
					assert.NoError(t, err)
				}
				mu.Lock()
				defer mu.Unlock()
				outcomes[outcome]++
			})
		}
		next, err := changeOfLeader(t.Context(), storages[to], ids[to])
		require.NoError(t, err)
		running.Wait()
		term = next
	}
	t.Logf("%d races: %v", *pairRaces, outcomes)
	assert.Positive(t, outcomes["committed"])
	assert.Positive(t, outcomes["refused"])
	w.requireSound()
}

// The primary dies, the standby takes its place: the election goes on there, nothing that
// was acknowledged is missing, and history does not go back. The old primary comes back,
// and nobody has fenced it: as it waits for its standby, it acknowledges nothing.
func TestPairFailover(t *testing.T) {
	for _, commit := range []string{"on", "remote_apply"} {
		t.Run(commit, func(t *testing.T) {
			t.Parallel()
			w := newPairWorld(t)
			require.NoError(t, w.pair.Primary.Set(t.Context(), "synchronous_commit", commit))
			members := w.joinThree()
			w.more(50)
			died, old := time.Now(), w.pair.Primary
			require.NoError(t, old.Kill(t.Context()))
			require.NoError(t, w.pair.Promote(t.Context()))
			promoted := time.Since(died)
			w.more(1)
			resumed := time.Since(died)
			w.more(50)
			w.requireSound()
			t.Logf("promoted after %v, the next entry after %v; %d entries, %d of unknown outcome", promoted, resumed, w.entries(), w.unknown)

			require.NoError(t, old.Return(t.Context()))
			requireSilent(t, w, old)
			late := w.join("late", w.pair.DSN())
			w.more(50)
			for _, m := range members {
				m.stop()
			}
			late.stop()
			w.requireSound()
		})
	}
}

// requireSilent checks that a primary without its standby acknowledges neither a guarded
// transaction of the leader that it knows nor a change of leader.
func requireSilent(t *testing.T, w *pairWorld, old *dbtest.PairServer) {
	t.Helper()
	s := w.storage(w.open(old.DSN())).WithGuardTimeout(time.Second)
	r, err := s.Get(t.Context())
	require.NoError(t, err)
	if r.LeaderID != "" {
		err := w.write(t.Context(), s, r.LeaderID, r.Term, "")
		require.ErrorIs(t, err, election.ErrOutcomeUnknown)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = changeOfLeader(ctx, s, "usurper")
	require.Error(t, err)
}

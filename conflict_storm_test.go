package election_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// sea is a storage far away: a call takes up to 8 ms in each direction. It counts.
type sea struct {
	mu                sync.Mutex
	random            *rand.Rand
	writes, conflicts int
	acked             map[string]time.Time // each member's last acknowledged write
	gaps              []time.Duration      // between these
}

func (s *sea) sail() {
	s.mu.Lock()
	d := time.Duration(s.random.Int64N(int64(8 * time.Millisecond)))
	s.mu.Unlock()
	<-time.After(d) // virtual time
}

// calm forgets what was counted so far.
func (s *sea) calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes, s.conflicts, s.gaps = 0, 0, nil
}

func (s *sea) wrote(id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if errors.Is(err, election.ErrRecordConflict) {
		s.conflicts++
		return
	}
	if last, ok := s.acked[id]; ok {
		s.gaps = append(s.gaps, time.Since(last))
	}
	s.acked[id] = time.Now()
}

// overseas is one member's way to its storage.
type overseas struct {
	*storagetest.Memory
	sea *sea
	id  string
}

func (o overseas) write(write func() error) error {
	o.sea.sail()
	err := write()
	o.sea.sail()
	o.sea.wrote(o.id, err)
	return err
}

func (o overseas) Get(ctx context.Context) (*election.Record, error) {
	o.sea.sail()
	defer o.sea.sail()
	return o.Memory.Get(ctx)
}

func (o overseas) GetMembers(ctx context.Context, ids ...string) ([]*election.Member, error) {
	o.sea.sail()
	defer o.sea.sail()
	return o.Memory.GetMembers(ctx, ids...)
}

func (o overseas) Update(ctx context.Context, r *election.Record, changed bool) error {
	return o.write(func() error { return o.Memory.Update(ctx, r, changed) })
}

func (o overseas) UpdateMember(ctx context.Context, before, after *election.Member) error {
	return o.write(func() error { return o.Memory.UpdateMember(ctx, before, after) })
}

func (o overseas) UpdateWithMember(ctx context.Context, r *election.Record, changed bool, before, after *election.Member) error {
	return o.write(func() error { return o.Memory.UpdateWithMember(ctx, r, changed, before, after) })
}

// Trap 20: conflict storm. However many members start at once, all are members within
// a lease; then nobody's renewal waits for the others', nobody is dropped, and nobody
// else leads. Where all must write the one record, the same holds for ten.
func TestTrap20ConflictStorm(t *testing.T) {
	for _, tc := range []struct {
		members int
		apart   bool
	}{{3, true}, {10, true}, {50, true}, {200, true}, {3, false}, {10, false}} {
		t.Run(fmt.Sprintf("members=%d,apart=%v", tc.members, tc.apart), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { storm(t, tc.members, tc.apart) })
		})
	}
}

func storm(t *testing.T, n int, apart bool) {
	memory := storagetest.NewMemory()
	s := &sea{random: rand.New(rand.NewPCG(20, uint64(n))), acked: map[string]time.Time{}}
	p := newParty(t)
	for i := range n {
		id := fmt.Sprint("member ", i)
		var storage election.Storage = overseas{memory.Handle(), s, id}
		if !apart {
			storage = plain{storage}
		}
		p.join(id, storage)
	}
	known := func() int {
		if m := p.leader(); m != nil {
			return len(m.GetMembers())
		}
		return 0
	}
	waitFor(t, election.DefaultLeaseDuration, "all are members", func() bool { return known() == n })
	<-time.After(election.DefaultLeaseDuration) // virtual time
	s.calm()
	length := min(5*time.Minute, 2*time.Hour/time.Duration(n)) // as many renewals of 200 as of 24
	for began := time.Now(); time.Since(began) < length; {
		<-time.After(time.Second) // virtual time
		require.Equal(t, n, known(), "after %v", time.Since(began))
	}
	require.Len(t, p.log.all(), 1, "nobody else led")
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.gaps)
	p99, longest := s.gaps[len(s.gaps)*99/100], s.gaps[len(s.gaps)-1]
	t.Logf("%d writes, %d conflicts; from one acknowledged write of a member to its next: p99 %v, longest %v",
		s.writes, s.conflicts, p99, longest)
	require.Less(t, p99, election.DefaultRenewInterval+election.DefaultRenewInterval/4)
	require.Less(t, longest, election.DefaultRenewDeadline)
	if apart {
		require.Zero(t, s.conflicts)
	}
}

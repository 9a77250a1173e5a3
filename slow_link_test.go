package election_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// slowLink is a storage whose answers take as long as the network needs.
type slowLink struct {
	election.MemberStorage
	trip time.Duration
	mu   sync.Mutex
	cut  bool // the connection is gone: a call sets up another one, which is lost with the call
	hang bool // the next call finds it silent
	dead bool // and so does every one
}

const (
	setUp = 6 // round trips of a new connection, with TLS and its login
	ask   = 2 // of a call: some drivers first check a connection that was idle
)

func (s *slowLink) call(ctx context.Context) error {
	trips := time.Duration(ask)
	if s.take(&s.cut) {
		trips = setUp + 1
	}
	if s.take(&s.hang) || s.isDead() {
		<-ctx.Done()
	}
	select {
	case <-time.After(trips * s.trip): // virtual time
		return nil
	case <-ctx.Done():
		s.disturb(&s.cut) // the connection is lost with the call
		return ctx.Err()
	}
}

// take returns a disturbance, and ends it.
func (s *slowLink) take(what *bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := *what
	*what = false
	return was
}

func (s *slowLink) isDead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

func (s *slowLink) disturb(what *bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*what = true
}

func (s *slowLink) Get(ctx context.Context) (*election.Record, error) {
	if err := s.call(ctx); err != nil {
		return nil, err
	}
	return s.MemberStorage.Get(ctx)
}

func (s *slowLink) Update(ctx context.Context, r *election.Record, changed bool) error {
	if err := s.call(ctx); err != nil {
		return err
	}
	return s.MemberStorage.Update(ctx, r, changed)
}

func (s *slowLink) GetMembers(ctx context.Context, ids ...string) ([]*election.Member, error) {
	if err := s.call(ctx); err != nil {
		return nil, err
	}
	return s.MemberStorage.GetMembers(ctx, ids...)
}

func (s *slowLink) UpdateMember(ctx context.Context, before, after *election.Member) error {
	if err := s.call(ctx); err != nil {
		return err
	}
	return s.MemberStorage.UpdateMember(ctx, before, after)
}

func (s *slowLink) UpdateWithMember(ctx context.Context, r *election.Record, changed bool, before, after *election.Member) error {
	if err := s.call(ctx); err != nil {
		return err
	}
	return s.MemberStorage.UpdateWithMember(ctx, r, changed, before, after)
}

// disturbed lets a member lead over a link that is disturbed every 30 s, twenty times, and
// returns how many reigns that took.
func disturbed(t *testing.T, link *slowLink, disturb func(), configure ...func(*election.Config)) (reigns int) {
	p := newParty(t)
	a := p.join("a", link, configure...)
	waitFor(t, time.Minute, "a leads", a.IsLeader)
	for i := range 20 { // in whatever call it is
		<-time.After(30*time.Second + time.Duration(i)*170*time.Millisecond) // virtual time
		disturb()
	}
	<-time.After(30 * time.Second) // virtual time
	require.True(t, a.IsLeader())
	return len(p.log.all())
}

// A link with a round trip of 500 ms is slow, and not broken: a connection that is lost
// and set up anew costs no leadership at default settings.
func TestSlowLinkKeepsTheLeadership(t *testing.T) {
	t.Parallel()
	for _, trip := range []time.Duration{0, 50 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond} {
		t.Run(trip.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				link := &slowLink{MemberStorage: storagetest.NewMemory().Handle(), trip: trip}
				assert.Equal(t, 1, disturbed(t, link, func() { link.disturb(&link.cut) }))
			})
		})
	}
}

// How long a link takes is measured, whatever the renewals' pace: a long RenewInterval, in which calls may wait
// for company, makes a slow link no quicker.
func TestSlowLinkWithLongIntervals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		link := &slowLink{MemberStorage: storagetest.NewMemory().Handle(), trip: 500 * time.Millisecond}
		assert.Equal(t, 1, disturbed(t, link, func() { link.disturb(&link.cut) }, func(c *election.Config) {
			c.LeaseDuration, c.RenewDeadline, c.RenewInterval = 70*time.Second, 38*time.Second, 30*time.Second
		}))
	})
}

// Over a slow link, too, members learn of each other: the look at all of them is not given up
// for a round that can wait.
func TestSlowLinkShowsTheMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, memory := newParty(t), storagetest.NewMemory()
		var members []*partyMember
		for _, id := range []string{"a", "b", "c"} {
			members = append(members, p.join(id, &slowLink{MemberStorage: memory.Handle(), trip: 500 * time.Millisecond}))
			waitFor(t, time.Minute, "a leads", members[0].IsLeader)
		}
		for _, m := range members {
			waitFor(t, time.Minute, "all are known", func() bool { return len(m.GetMembers()) == 3 })
		}
		for range 300 {
			<-time.After(time.Second) // virtual time
			for _, m := range members {
				require.Len(t, m.GetMembers(), 3)
			}
		}
		require.NoError(t, members[0].TransferLeader(t.Context(), "c"))
		waitFor(t, 30*time.Second, "c leads", members[2].IsLeader)
		require.Len(t, p.log.all(), 2)
	})
}

// Over a slow link, too, the leader removes the entries of members that have died, and loses
// no leadership to that.
func TestSlowLinkForgetsTheDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, memory := newParty(t), storagetest.NewMemory()
		var links []*slowLink
		for _, id := range []string{"a", "b", "c", "d"} {
			link := &slowLink{MemberStorage: memory.Handle(), trip: 500 * time.Millisecond}
			links = append(links, link)
			a := p.join(id, link)
			waitFor(t, time.Minute, "it leads, or has joined", func() bool { return a.IsLeader() || len(a.GetMembers()) == len(links) })
		}
		for _, link := range links[1:] {
			link.disturb(&link.dead)
		}
		left := func() int {
			members, err := memory.Handle().GetMembers(t.Context())
			require.NoError(t, err)
			return len(members)
		}
		require.GreaterOrEqual(t, left(), 3)
		waitFor(t, 5*time.Minute, "the entries are removed", func() bool { return left() <= 1 })
		require.Len(t, p.log.all(), 1)
	})
}

// On a quick link a call that hangs is given up early enough for two more.
func TestQuickLinkGivesUpEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		link := &slowLink{MemberStorage: storagetest.NewMemory().Handle(), trip: 20 * time.Millisecond}
		assert.Equal(t, 1, disturbed(t, link, func() { link.disturb(&link.hang) }))
	})
}

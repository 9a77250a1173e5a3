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
	election.Storage
	trip time.Duration
	mu   sync.Mutex
	cut  bool // the connection is gone: a call sets up another one, which is lost with the call
	hang bool // the next call finds it silent
}

// setUp is how many round trips a new connection takes, with TLS and its login.
const setUp = 6

func (s *slowLink) call(ctx context.Context) error {
	trips := time.Duration(1)
	if s.take(&s.cut) {
		trips = setUp + 1
	}
	if s.take(&s.hang) {
		<-ctx.Done()
	}
	select {
	case <-time.After(trips * s.trip): // virtual time
		return nil
	case <-ctx.Done():
		if trips > 1 {
			s.disturb(&s.cut) // the new connection is lost with the call
		}
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

func (s *slowLink) disturb(what *bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*what = true
}

func (s *slowLink) Get(ctx context.Context) (*election.Record, error) {
	if err := s.call(ctx); err != nil {
		return nil, err
	}
	return s.Storage.Get(ctx)
}

func (s *slowLink) Update(ctx context.Context, r *election.Record, changed bool) error {
	if err := s.call(ctx); err != nil {
		return err
	}
	return s.Storage.Update(ctx, r, changed)
}

// disturbed lets a member lead over a link that is disturbed every 30 s, twenty times, and
// returns how many reigns that took.
func disturbed(t *testing.T, link *slowLink, disturb func()) (reigns int) {
	p := newParty(t)
	a := p.join("a", link)
	waitFor(t, time.Minute, "a leads", a.IsLeader)
	for range 20 {
		<-time.After(30 * time.Second) // virtual time
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
				link := &slowLink{Storage: storagetest.NewMemory().Handle(), trip: trip}
				assert.Equal(t, 1, disturbed(t, link, func() { link.disturb(&link.cut) }))
			})
		})
	}
}

// On a quick link a call that hangs is given up early enough for two more.
func TestQuickLinkGivesUpEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		link := &slowLink{Storage: storagetest.NewMemory().Handle(), trip: 20 * time.Millisecond}
		assert.Equal(t, 1, disturbed(t, link, func() { link.disturb(&link.hang) }))
	})
}

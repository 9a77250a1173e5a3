package election

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/clock"
)

// steered is a clock that a test moves by hand, and whose timers are held back
// until finish is called. From then on they fire at once, at their time.
type steered struct {
	mu       sync.Mutex
	now      clock.Instant
	fire     chan time.Time
	finished bool
}

func (s *steered) Now() clock.Instant { s.mu.Lock(); defer s.mu.Unlock(); return s.now }

func (s *steered) Read() clock.Instant { return s.Now() }

func (s *steered) Jitter(time.Duration) time.Duration { return 0 }

func (s *steered) Random() uint64 { return 1 }

func (s *steered) NewTimer(d time.Duration) clock.Timer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished && d > 0 {
		s.now.Mono += d
	}
	return heldBack{s.fire}
}

func newSteered() *steered { return &steered{now: at(0), fire: make(chan time.Time)} }

func (s *steered) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	s.now.Mono += time.Hour
	close(s.fire)
}

func (s *steered) move(by clock.Instant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Mono += by.Mono
	s.now.Boot += by.Boot
	s.now.Wall += by.Wall
}

type heldBack struct{ fire chan time.Time }

func (h heldBack) C() <-chan time.Time { return h.fire }

func (heldBack) Stop() bool { return true }

// lastingStorage stores one record, for the tests of this package that cannot
// import storagetest.
type lastingStorage struct {
	mu     sync.Mutex
	record Record
}

func (s *lastingStorage) Get(context.Context) (*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Clone(), nil
}

func (s *lastingStorage) Update(_ context.Context, r *Record, _ bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Version != s.record.Version {
		return ErrRecordConflict
	}
	s.record = *r.Clone()
	s.record.Version++
	return nil
}

// leadingElector returns an elector that leads on c.
func leadingElector(t testing.TB, c clock.Clock) Elector {
	led := make(chan struct{})
	e, err := NewElector(Config{ID: "a", Storage: &lastingStorage{}, LeaderCallback: func(ctx context.Context) error {
		close(led)
		<-ctx.Done()
		return nil
	}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(clock.With(context.Background(), c))
	ended := make(chan error, 1)
	go func() { ended <- e.RunElection(ctx) }()
	<-led
	t.Cleanup(func() {
		cancel()
		if s, ok := c.(*steered); ok {
			s.finish() // leaving may take another round
		}
		<-ended
	})
	return e
}

func TestIsLeaderWhenTheTimerIsHeldBack(t *testing.T) {
	c := newSteered()
	e := leadingElector(t, c)
	require.True(t, e.IsLeader())
	c.move(clock.Instant{Mono: DefaultRenewDeadline - 1, Boot: DefaultRenewDeadline - 1, Wall: DefaultRenewDeadline - 1})
	require.True(t, e.IsLeader())
	c.move(clock.Instant{Mono: 1, Boot: 1, Wall: 1})
	require.False(t, e.IsLeader(), "no timer has fired, no loop has run")
	term, leading := e.Term()
	require.Zero(t, term)
	require.False(t, leading)
}

func TestIsLeaderAfterTheMachineSlept(t *testing.T) {
	c := newSteered()
	e := leadingElector(t, c)
	require.True(t, e.IsLeader())
	c.move(clock.Instant{Wall: time.Hour, Boot: time.Hour})
	require.False(t, e.IsLeader(), "the wall clock is 1 h ahead of the monotonic one")
}

func TestIsLeaderAllocatesNothing(t *testing.T) {
	e := leadingElector(t, clock.System())
	require.True(t, e.IsLeader())
	require.Zero(t, testing.AllocsPerRun(1000, func() { e.IsLeader(); e.Term() }))
}

// The figures to compare: IsLeader and Term against time.Now of the same run.
func BenchmarkIsLeader(b *testing.B) {
	e := leadingElector(b, clock.System())
	b.Run("time.Now", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = time.Now()
		}
	})
	b.Run("IsLeader", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.IsLeader()
		}
	})
	b.Run("Term", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.Term()
		}
	})
}

// A leader on a machine that slept past its trust steps down and says why.
func TestLeaderStepsDownAfterTheMachineSlept(t *testing.T) {
	c := newSteered()
	events := make(chan Event, 100)
	storage := &lastingStorage{}
	e, err := NewElector(Config{ID: "a", Storage: storage, OnEvent: func(e Event) { events <- e },
		LeaderCallback: func(ctx context.Context) error { <-ctx.Done(); return nil }})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(clock.With(context.Background(), c))
	ended := make(chan error, 1)
	go func() { ended <- e.RunElection(ctx) }()
	for (<-events).Kind != EventAcquired {
	}
	c.move(clock.Instant{Boot: time.Hour}) // neither the monotonic nor the wall clock shows it
	// Any request wakes the loop, whose timers are held back; unless it has seen it already.
	_ = e.TransferLeader(context.Background(), "a")
	slept, cause := time.Duration(0), error(nil)
	for cause == nil {
		switch e := <-events; e.Kind {
		case EventSuspended:
			slept = e.Duration
		case EventDraining:
			cause = e.Err
		}
	}
	require.Equal(t, time.Hour, slept)
	require.Equal(t, ErrLeaseExpired, cause)
	require.False(t, e.IsLeader())
	cancel()
	c.finish()
	<-ended
}

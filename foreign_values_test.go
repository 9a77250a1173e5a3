package election_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// Entries written by someone else with lease durations that make no sense.
func TestTrap23ForeignLeaseDurations(t *testing.T) {
	for _, lease := range []time.Duration{0, -time.Hour, 1 << 62} {
		t.Run(lease.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				require.NoError(t, memory.Update(t.Context(), &election.Record{
					LeaderID: "z", Term: 7, Members: []*election.Member{{ID: "z", LeaseDuration: lease}},
				}, true))
				p := newParty(t)
				clamped := make(chan election.Event, 100)
				started := time.Now()
				a := p.join("a", memory.Handle(), func(c *election.Config) {
					c.OnEvent = func(e election.Event) {
						if e.Kind == election.EventLeaseClamped {
							clamped <- e
						}
					}
				})
				expected := election.DefaultLeaseDuration
				if lease > 0 {
					expected = election.MaxLeaseDuration
				}
				<-time.After(expected - time.Second)
				require.False(t, a.IsLeader())
				<-time.After(time.Second + 10*time.Millisecond)
				require.True(t, a.IsLeader())
				require.InDelta(t, expected, time.Since(started), float64(20*time.Millisecond))
				require.Equal(t, lease > 0, len(clamped) == 1)
			})
		})
	}
}

// A record whose term leaves no room for a higher one is left alone.
func TestTrap23TermAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		require.NoError(t, memory.Update(t.Context(), &election.Record{Term: 1<<63 - 1}, true))
		p := newParty(t)
		a := p.join("a", memory.Handle())
		<-time.After(time.Minute)
		require.False(t, a.IsLeader())
		require.Equal(t, uint64(1<<63-1), memory.Rows().Record.Term)
	})
}

// Durations that would overflow when added to a moment.
func TestTrap23HugeDurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle(), func(c *election.Config) {
			c.StopTimeout = math.MaxInt64
			c.LeaderCallback = p.log.callback("a", time.Minute)
		})
		synctest.Wait()
		p.join("b", memory.Handle())
		<-time.After(3 * time.Second)
		require.NoError(t, a.ResignLeader(t.Context(), math.MaxInt64))
		<-time.After(time.Minute)
		require.Equal(t, []string{"b"}, p.leaders(), "the resignation holds, and waited for the callback")
		p.log.requireSound(t)
		o, err := election.NewObserver(memory.Handle(), election.ObserverConfig{PollInterval: math.MaxInt64})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		synctest.Wait()
		leader, ok := o.GetLeader()
		require.True(t, ok)
		require.Equal(t, "b", leader.ID)
		cancel()
		<-ended
	})
}

func TestTrap23NegativeVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		memory.SetRows(storagetest.Rows{Record: &election.Record{Version: -1}})
		p := newParty(t)
		a := p.join("a", memory.Handle())
		<-time.After(time.Minute)
		require.False(t, a.IsLeader())
		require.ErrorContains(t, a.Status().Err, "negative")
	})
}

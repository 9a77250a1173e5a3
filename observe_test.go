package election_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// Observers that are slow, or never receive, delay nobody; whoever looks at last
// sees the final state.
func TestTrap21SlowObservers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		block := make(chan struct{})
		a := p.join("a", memory.Handle(), func(c *election.Config) {
			c.LeaseDuration, c.RenewInterval, c.RenewDeadline = 40*time.Millisecond, 10*time.Millisecond, 25*time.Millisecond
			c.OnEvent = func(election.Event) { <-block } // never returns while the election runs
		})
		ctx, cancel := context.WithCancel(t.Context())
		var silent []<-chan election.Leadership
		for range 10 {
			silent = append(silent, a.Observe(ctx))
		}
		synctest.Wait()
		const flips = 10_000
		for range flips {
			require.NoError(t, a.ResignLeader(t.Context(), 0))
			waitFor(t, time.Second, "a leads again", a.IsLeader)
		}
		synctest.Wait()
		term, leading := a.Term()
		require.True(t, leading)
		require.Greater(t, term, uint64(flips))
		for _, c := range silent {
			last := <-c
			require.Equal(t, term, last.Term)
			require.Equal(t, "a", last.Leader.ID)
		}
		cancel()
		for _, c := range silent {
			_, open := <-c
			require.False(t, open)
		}
		_ = a.leave()
		close(block)
	})
}

// Whoever ranges over Observe hears that no leader is known when the one that watches has
// stopped, and then the end of it. Nobody is handed the last leader for ever.
func TestObserveEndsWithWhoeverWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		synctest.Wait()
		b := p.join("b", memory.Handle())
		synctest.Wait()
		o, err := election.NewObserver(memory.Handle(), election.ObserverConfig{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		for name, watch := range map[string]struct {
			observe func(context.Context) <-chan election.Leadership
			stop    func()
		}{
			"elector":  {b.Observe, func() { _ = b.leave() }},
			"observer": {o.Observe, func() { cancel(); <-ended }},
		} {
			synctest.Wait()
			observing, done := context.WithCancel(t.Context())
			changes := watch.observe(observing)
			seen := make(chan []election.Leadership)
			go func() {
				var all []election.Leadership
				for l := range changes {
					all = append(all, l)
				}
				seen <- all
			}()
			synctest.Wait()
			watch.stop()
			all := <-seen
			require.Len(t, all, 2, name)
			require.Equal(t, "a", all[0].Leader.ID, name)
			require.Nil(t, all[1].Leader, name)
			require.Equal(t, all[0].Term, all[1].Term, name)
			done() // after the end
			synctest.Wait()

			l, open := <-watch.observe(t.Context())
			require.True(t, open)
			require.Nil(t, l.Leader, "%s: begun after the end", name)
			late := watch.observe(t.Context())
			<-late
			_, open = <-late
			require.False(t, open, name)
		}
		require.True(t, a.IsLeader())
	})
}

package election_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// The events of a whole life, in order, by OnEvent and by the logger.
func TestEventsOfALife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var kinds []election.EventKind
		p := newParty(t)
		a := p.join("a", storagetest.NewMemory(), func(c *election.Config) {
			c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
			c.OnEvent = func(e election.Event) { kinds = append(kinds, e.Kind) }
		})
		synctest.Wait()
		require.NoError(t, a.ResignLeader(t.Context(), time.Minute))
		_ = a.leave()
		require.Equal(t, []election.EventKind{
			election.EventJoined, election.EventLeaderObserved, election.EventAcquired,
			election.EventDraining, election.EventCallbackReturn, election.EventLeaderObserved, election.EventReleased,
			election.EventStopped,
		}, kinds)
		for _, kind := range kinds {
			require.Contains(t, log.String(), string(kind))
		}
		require.Contains(t, log.String(), election.ErrResigned.Error())
	})
}

// A receiver that is too slow is told how many events it missed.
func TestEventsDroppedAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		var mu sync.Mutex
		received, dropped := 0, uint64(0)
		p := newParty(t)
		a := p.join("a", storagetest.NewMemory(), func(c *election.Config) {
			c.OnEvent = func(e election.Event) {
				<-hold
				mu.Lock()
				defer mu.Unlock()
				received++
				dropped += e.Dropped
			}
		})
		for range 200 {
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			require.NoError(t, a.ResignLeader(t.Context(), 0))
		}
		close(hold)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		_ = a.leave()
		mu.Lock()
		defer mu.Unlock()
		require.Greater(t, dropped, uint64(500))
		require.Greater(t, received, 200)
	})
}

package election_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/storagetest"
)

// rareLooks is a member that hardly ever polls.
func rareLooks(c *election.Config) {
	c.LeaseDuration, c.RenewInterval, c.RenewDeadline = 3*time.Minute, 45*time.Second, 2*time.Minute
}

// A resignation, and a transfer, are heard of long before the next poll.
func TestWokenByAChange(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		needsNotifications(t, db)
		p := newParty(t)
		p.ctx, p.watches = t.Context(), true
		a := p.join("a", kind.must(t, db.Open(t)), rareLooks)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		b := p.join("b", kind.must(t, db.Open(t)), rareLooks)
		waitFor(t, time.Minute, "both are told of changes", func() bool { return a.Status().Watching && b.Status().Watching })
		waitFor(t, time.Minute, "b knows the leader", func() bool { _, ok := b.GetLeader(); return ok })
		require.NoError(t, a.ResignLeader(t.Context(), time.Hour))
		waitFor(t, 20*time.Second, "b leads, sooner than it polls", b.IsLeader)
		p.stopAll()
		p.log.requireSound(t)
	})
}

// Where a storage cannot tell of changes, Status says why, and polling finds them.
func TestStatusSaysWhyNobodyIsWoken(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		p := newParty(t)
		p.ctx, p.watches = t.Context(), true
		a := p.join("a", kind.must(t, db.OpenSingle(t)), quickLease)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		waitFor(t, time.Minute, "the reason is known", func() bool { return a.Status().WatchErr != nil })
		require.False(t, a.Status().Watching)
	})
}

// told is a Storage whose wake-ups are the test's.
type told struct {
	*storagetest.Memory
	watch func(ctx context.Context, changed func()) error
}

func (s told) Watch(ctx context.Context, changed func()) error { return s.watch(ctx, changed) }

// A watch that breaks is taken up again after a lease. One that ignores its ctx does
// not keep RunElection from ending.
func TestWatchIsTakenUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		var watches atomic.Int64
		broken := errors.New("the connection broke")
		hang := make(chan struct{})
		a := p.join("a", told{storagetest.NewMemory(), func(_ context.Context, changed func()) error {
			if watches.Add(1) < 3 {
				changed()
				return broken
			}
			<-hang
			return nil
		}})
		<-time.After(election.DefaultLeaseDuration / 2)
		require.ErrorIs(t, a.Status().WatchErr, broken)
		require.False(t, a.Status().Watching)
		<-time.After(3 * election.DefaultLeaseDuration)
		require.Equal(t, int64(3), watches.Load())
		require.ErrorIs(t, a.leave(), context.Canceled)
		close(hang)
	})
}

// Hints without end do not make a follower, or a leader, flood its database.
func TestWokenWithoutReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", func() bool { return p.leader() != nil })
		var rings func()
		b := p.join("b", told{memory.Handle(), func(ctx context.Context, changed func()) error {
			rings = changed
			<-ctx.Done()
			return ctx.Err()
		}})
		synctest.Wait()
		renewed := memory.Rows().Members["b"].RenewTime
		renewals := 0
		for range 1000 {
			rings()
			<-time.After(time.Millisecond)
			if now := memory.Rows().Members["b"].RenewTime; !now.Equal(renewed) {
				renewed, renewals = now, renewals+1
			}
		}
		require.LessOrEqual(t, renewals, 2, "looks, but does not write")
		require.False(t, b.IsLeader())
	})
}

// slowToList is told with a way to all members that takes a second.
type slowToList struct {
	told
	listing chan struct{}
}

func (s slowToList) GetMembers(ctx context.Context, ids ...string) ([]*election.Member, error) {
	if len(ids) > 0 {
		return s.told.GetMembers(ctx, ids...)
	}
	s.listing <- struct{}{}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Second):
		return s.told.GetMembers(ctx)
	}
}

// A member that is looking at all members when it is told of a change looks at the
// record at once.
func TestWokenWhileItLooksAtAllMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		rings, listing := make(chan func(), 1), make(chan struct{}, 100)
		p.watches = true
		b := p.join("b", slowToList{told{memory.Handle(), func(ctx context.Context, changed func()) error {
			rings <- changed
			<-ctx.Done()
			return ctx.Err()
		}}, listing})
		ring := <-rings
		<-listing
		require.NoError(t, a.ResignLeader(t.Context(), time.Hour))
		start := time.Now()
		ring()
		waitFor(t, time.Minute, "b leads", b.IsLeader)
		require.Less(t, time.Since(start), 100*time.Millisecond) // of virtual time
		p.stopAll()
		p.log.requireSound(t)
	})
}

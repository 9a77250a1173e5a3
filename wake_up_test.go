package election_test

import (
	"context"
	"errors"
	"fmt"
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

// A watch that breaks is taken up again at once; one that does not last, or does not begin,
// more and more rarely. One that ignores its ctx does not keep RunElection from ending.
func TestWatchIsTakenUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		const atOnce = 100 * time.Millisecond // of virtual time
		broken := errors.New("the connection broke")
		watches, hang := make(chan time.Time, 10000), make(chan struct{})
		lasts := make(chan time.Duration, 1)
		lasts <- 5 * time.Second
		a := p.join("a", told{storagetest.NewMemory(), func(ctx context.Context, changed func()) error {
			watches <- time.Now()
			d := <-lasts
			switch {
			case d < 0:
				<-hang
				return nil
			case d > 0:
				changed()
				<-time.After(d)
			}
			lasts <- d
			return broken
		}})
		before := <-watches
		for range 10 {
			next := <-watches
			require.Less(t, next.Sub(before), 5*time.Second+atOnce)
			before = next
		}
		synctest.Wait()
		require.True(t, a.Status().Watching)
		for _, d := range []time.Duration{0, time.Millisecond} { // it does not begin, or breaks at once
			<-lasts
			lasts <- d
			<-time.After(time.Minute)
			require.ErrorIs(t, a.Status().WatchErr, broken)
			require.False(t, a.Status().Watching)
			for len(watches) > 0 {
				<-watches
			}
			<-time.After(time.Hour)
			require.InDelta(t, time.Hour/election.DefaultLeaseDuration, len(watches), 10)
		}
		<-lasts
		lasts <- -1
		<-time.After(election.DefaultLeaseDuration * 2)
		require.ErrorIs(t, a.leave(), context.Canceled)
		close(hang)
	})
}

// A storage that says that it never can watch is not asked again.
func TestWatchThatIsNotSupported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		var watches atomic.Int64
		a := p.join("a", told{storagetest.NewMemory(), func(context.Context, func()) error {
			watches.Add(1)
			return fmt.Errorf("%w here", errors.ErrUnsupported)
		}})
		<-time.After(time.Hour)
		require.Equal(t, int64(1), watches.Load())
		require.ErrorIs(t, a.Status().WatchErr, errors.ErrUnsupported)
	})
}

// Wake-ups can be switched off: nothing is asked but what an election needs, Status says
// so, and others are told all the same.
func TestWithoutWakeUps(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		needsNotifications(t, db)
		handle := db.Open(t)
		s := kind.must(t, handle)
		var asleep election.Storage
		switch s := s.(type) {
		case *election.SQLStorage:
			asleep = s.WithoutWakeUps().Election("")
		case *election.ORMStorage:
			asleep = s.WithoutWakeUps().Election("")
		}
		p := newParty(t)
		p.ctx, p.watches = t.Context(), true
		a := p.join("a", asleep)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		waitFor(t, time.Minute, "the reason is known", func() bool { return a.Status().WatchErr != nil })
		require.ErrorIs(t, a.Status().WatchErr, errors.ErrUnsupported)
		require.ErrorContains(t, a.Status().WatchErr, "WithoutWakeUps")
		require.False(t, a.Status().Watching)
		e := listen(t, kind.must(t, db.Open(t)))
		for len(e.rings) > 0 {
			<-e.rings
		}
		require.NoError(t, a.ResignLeader(t.Context(), time.Hour))
		e.hear(t)
		waitFor(t, time.Minute, "no connection is in use, as nobody listens", func() bool { return handle.Stats().InUse == 0 })
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

package election_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/clock"
	"github.com/sqlelect/election/storagetest"
)

func TestElectorLeadsAloneAndLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle(), func(c *election.Config) { c.Address = "host:1"; c.Labels = map[string]string{"zone": "x"} })
		synctest.Wait()
		require.True(t, a.IsLeader())
		term, leading := a.Term()
		require.True(t, leading)
		require.Equal(t, uint64(1), term)
		leader, ok := a.GetLeader()
		require.True(t, ok)
		require.Equal(t, "host:1", leader.Address)
		require.Equal(t, map[string]string{"zone": "x"}, leader.Labels)
		require.Equal(t, election.StateLeader, a.Status().State)

		<-time.After(time.Minute)
		require.True(t, a.IsLeader(), "renewals keep the lease")
		require.ErrorIs(t, a.leave(), context.Canceled)
		require.False(t, a.IsLeader())
		require.Equal(t, election.StateStopped, a.Status().State)
		record, err := memory.Get(t.Context())
		require.NoError(t, err)
		require.Empty(t, record.LeaderID)
		require.Empty(t, record.Members)
		require.Equal(t, uint64(1), record.Term, "the term survives the release")
		p.log.requireSound(t)
	})
}

func TestElectorRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		a := p.join("a", storagetest.NewMemory())
		synctest.Wait()
		require.ErrorIs(t, a.RunElection(t.Context()), election.ErrAlreadyRun)
		_ = a.leave()
		require.ErrorIs(t, a.RunElection(t.Context()), election.ErrAlreadyRun)
	})
}

func TestElectorGracefulStopHandsOverWithinOnePoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		synctest.Wait()
		b := p.join("b", memory.Handle())
		<-time.After(5 * time.Second)
		require.Equal(t, []string{"a"}, p.leaders())
		require.Len(t, b.GetMembers(), 2)
		_ = a.leave()
		stopped := time.Now()
		waitFor(t, time.Minute, "b leads", b.IsLeader)
		require.LessOrEqual(t, time.Since(stopped), election.DefaultRenewInterval+2*time.Millisecond)
		p.log.requireSound(t)
	})
}

// A crash is a member whose storage falls silent: G4 promises a new leader
// within LeaseDuration of the moment the follower saw the last renewal.
func TestElectorTakesOverAtTheEndOfTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var dead atomic.Bool
		var lastWrite atomic.Int64
		silence := func() time.Duration { return time.Duration(time.Now().UnixNano() - lastWrite.Load()) }
		crashing := &hooked{Storage: memory.Handle()}
		crashing.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
			if dead.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			lastWrite.Store(time.Now().UnixNano())
			return next(ctx)
		}
		a := p.join("a", crashing)
		synctest.Wait()
		b := p.join("b", memory.Handle())
		<-time.After(time.Minute)
		dead.Store(true)
		waitFor(t, time.Minute, "b leads", b.IsLeader)
		require.LessOrEqual(t, silence(), election.DefaultLeaseDuration+election.DefaultRenewInterval+2*time.Millisecond)
		require.GreaterOrEqual(t, silence(), election.DefaultLeaseDuration)
		require.False(t, a.IsLeader())
		require.ErrorIs(t, p.log.all()[0].cause, election.ErrLeaseExpired)
		p.log.requireSound(t)
	})
}

func TestElectorExitOnRenewFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		gone := errors.New("disk on fire")
		var failing atomic.Bool
		storage := &hooked{Storage: memory}
		storage.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
			if failing.Load() {
				return nil, gone
			}
			return next(ctx)
		}
		a := p.join("a", storage, func(c *election.Config) { c.ExitOnRenewFail = true })
		synctest.Wait()
		require.True(t, a.IsLeader())
		failing.Store(true)
		<-a.done
		require.ErrorIs(t, a.err, election.ErrLeaseExpired)
		require.ErrorIs(t, a.err, gone)
	})
}

func TestElectorPanicReleasesAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		boom := errors.New("boom")
		p := newParty(t)
		a := p.join("a", memory, func(c *election.Config) {
			c.LeaderCallback = func(context.Context) error { panic(boom) }
		})
		<-a.done
		var panicked *election.PanicError
		require.ErrorAs(t, a.err, &panicked)
		require.ErrorIs(t, a.err, boom)
		require.Contains(t, string(panicked.Stack), "TestElectorPanicReleasesAndReturns")
		record, err := memory.Get(t.Context())
		require.NoError(t, err)
		require.Empty(t, record.LeaderID)
		require.Empty(t, record.Members)
	})
}

func TestElectorGoexitCountsAsReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var runs atomic.Int64
		a := p.join("a", memory, func(c *election.Config) {
			c.LeaderCallback = func(ctx context.Context) error {
				if runs.Add(1) == 1 {
					runtime.Goexit()
				}
				return stay(ctx)
			}
		})
		waitFor(t, time.Minute, "a leads again", func() bool { term, _ := a.Term(); return term > 1 })
	})
}

func TestElectorResignOnFollowerKeepsItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		synctest.Wait()
		b := p.join("b", memory.Handle())
		synctest.Wait()
		require.NoError(t, b.ResignLeader(t.Context(), time.Minute))
		require.Error(t, b.ResignLeader(t.Context(), -1))
		resigned := time.Now()
		_ = a.leave()
		waitFor(t, 2*time.Minute, "b leads", b.IsLeader)
		require.GreaterOrEqual(t, time.Since(resigned), time.Minute)
	})
}

func TestElectorCallbackSeesItsLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan election.Leadership, 1)
		p := newParty(t)
		p.join("a", storagetest.NewMemory(), func(c *election.Config) {
			c.LeaderCallback = func(ctx context.Context) error {
				l, ok := election.LeadershipFromContext(ctx)
				if ok {
					got <- l
				}
				return stay(ctx)
			}
		})
		l := <-got
		require.Equal(t, "a", l.Leader.ID)
		require.Equal(t, uint64(1), l.Term)
	})
}

func TestObserverWatchesWithoutWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		o, err := election.NewObserver(memory.Handle(), election.ObserverConfig{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		changes := o.Observe(ctx)
		require.Nil(t, (<-changes).Leader)
		synctest.Wait()
		record, err := memory.Get(t.Context())
		require.NoError(t, err)
		require.Zero(t, *record)

		p := newParty(t)
		a := p.join("a", memory.Handle())
		require.Equal(t, "a", (<-changes).Leader.ID)
		require.Len(t, o.GetMembers(), 1)
		_ = a.leave()
		require.Nil(t, (<-changes).Leader)
		_, ok := o.GetLeader()
		require.False(t, ok)
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		_, open := <-changes
		require.False(t, open)
	})
}

// A callback finds itself leading, whatever it asks, from its first moment on.
func TestCallbackFindsItselfLeading(t *testing.T) {
	t.Parallel()
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			var e election.Elector
			seen := make(chan election.Status, 1)
			var err error
			e, err = election.NewElector(election.Config{
				ID: "a", Storage: storagetest.NewMemory().Handle(),
				LeaderCallback: func(ctx context.Context) error {
					seen <- e.Status()
					<-ctx.Done()
					return nil
				},
			})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(clock.With(t.Context(), clock.Virtual()))
			ended := make(chan error, 1)
			go func() { ended <- e.RunElection(ctx) }()
			s := <-seen
			cancel()
			<-ended
			require.Equal(t, election.StateLeader, s.State)
			require.Equal(t, "a", s.Leadership.Leader.ID)
		})
	}
}

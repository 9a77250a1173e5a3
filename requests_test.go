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
	"github.com/sqlelect/election/storagetest"
)

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

// A ctx of a reign that has ended ends nothing, keeps nobody from campaigning, and the caller
// is told so.
func TestRequestsOfAnEarlierReign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		first := make(chan context.Context, 1)
		a := p.join("a", memory.Handle(), func(c *election.Config) {
			c.LeaderCallback = func(ctx context.Context) error {
				defer p.log.enter(ctx, "a")()
				select {
				case first <- context.WithoutCancel(ctx):
					return nil // and leads again soon
				default:
					return stay(ctx)
				}
			}
		})
		synctest.Wait()
		ctx := <-first
		first <- ctx // the place is taken
		refused := func() {
			t.Helper()
			require.ErrorIs(t, a.ResignLeader(ctx, time.Hour), election.ErrNotLeader)
			require.ErrorIs(t, a.TransferLeader(ctx, "b"), election.ErrNotLeader)
		}
		refused() // nobody leads
		waitFor(t, time.Minute, "a leads again", a.IsLeader)
		term, _ := a.Term()
		refused()
		<-time.After(time.Minute) // virtual time
		now, leading := a.Term()
		require.True(t, leading)
		require.Equal(t, term, now)
		require.NoError(t, a.ResignLeader(t.Context(), 0))
		waitFor(t, time.Minute, "a leads once more: nothing holds it back", a.IsLeader)
		_ = a.leave()
		refused()
	})
}

// A leader that has taken over has not looked at all members yet. A transfer waits for that.
func TestTransferRightAfterATakeOver(t *testing.T) {
	for target, want := range map[string]error{"c": nil, "nobody": election.ErrUnknownMember, "": election.ErrUnknownMember} {
		t.Run("to "+target, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				p := newParty(t)
				a := p.join("a", memory.Handle())
				synctest.Wait()
				c := p.join("c", memory.Handle())
				synctest.Wait()
				<-time.After(election.DefaultLeaseDuration) // virtual time
				_ = a.leave()
				asked := make(chan error, 1)
				var b *partyMember
				made := make(chan struct{})
				b = p.join("b", memory.Handle(), func(cfg *election.Config) {
					cfg.LeaderCallback = func(ctx context.Context) error {
						exit := p.log.enter(ctx, "b")
						defer exit()
						<-made
						asked <- b.TransferLeader(ctx, target)
						return stay(ctx)
					}
				})
				close(made)
				if want != nil {
					require.ErrorIs(t, <-asked, want)
					require.True(t, b.IsLeader())
					return
				}
				require.NoError(t, <-asked)
				waitFor(t, time.Minute, "c leads", c.IsLeader)
				p.log.requireSound(t)
			})
		})
	}
}

// blindStorage cannot look at all members while blind is true.
type blindStorage struct {
	election.MemberStorage
	blind atomic.Bool
}

func (s *blindStorage) GetMembers(ctx context.Context, ids ...string) ([]*election.Member, error) {
	if len(ids) == 0 && s.blind.Load() {
		return nil, errors.New("blind")
	}
	return s.MemberStorage.GetMembers(ctx, ids...)
}

// A transfer that waits for a look which does not come is given up with its caller's ctx, inside a
// callback too, and does not take place later.
func TestTransferIsGivenUpWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		storage := &blindStorage{MemberStorage: memory.Handle()}
		storage.blind.Store(true)
		inside, made := make(chan error, 1), make(chan struct{})
		var a *partyMember
		transfer := func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return a.TransferLeader(ctx, "c")
		}
		a = p.join("a", storage, func(cfg *election.Config) {
			cfg.LeaderCallback = func(ctx context.Context) error {
				<-made
				inside <- transfer(ctx)
				return stay(ctx)
			}
		})
		close(made)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		c := p.join("c", memory.Handle())
		require.ErrorIs(t, <-inside, context.DeadlineExceeded)
		require.ErrorIs(t, transfer(t.Context()), context.DeadlineExceeded)
		require.True(t, a.IsLeader())
		storage.blind.Store(false)
		<-time.After(10 * time.Minute) // virtual time
		require.True(t, a.IsLeader(), "nobody asks for it any more")
		require.NoError(t, transfer(t.Context()))
		waitFor(t, time.Minute, "c leads", c.IsLeader)
	})
}

// A transfer that a callback waits for is told when its reign is given up for another reason.
func TestTransferOfAReignThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		storage := &blindStorage{MemberStorage: storagetest.NewMemory().Handle()}
		storage.blind.Store(true)
		asked, made := make(chan error, 1), make(chan struct{})
		var a *partyMember
		a = p.join("a", storage, func(cfg *election.Config) {
			cfg.LeaderCallback = func(ctx context.Context) error {
				<-made
				asked <- a.TransferLeader(ctx, "c")
				return stay(ctx)
			}
		})
		close(made)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		require.NoError(t, a.ResignLeader(t.Context(), time.Minute))
		require.ErrorIs(t, <-asked, election.ErrNotLeader)
	})
}

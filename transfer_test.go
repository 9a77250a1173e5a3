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

// A transfer names its heir; the others leave the leadership to it, but not for
// long if it does not come.
func TestTrap26Transfer(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		a := p.join("a", open(), stopTakes(300*time.Millisecond, &p.log))
		synctest.Wait()
		members := map[string]*partyMember{"a": a}
		for _, id := range []string{"b", "c", "d", "e"} {
			members[id] = p.join(id, open())
		}
		<-time.After(3 * time.Second)
		require.ErrorIs(t, members["b"].TransferLeader(t.Context(), "c"), election.ErrNotLeader)
		require.ErrorIs(t, a.TransferLeader(t.Context(), "nobody"), election.ErrUnknownMember)
		require.ErrorIs(t, a.TransferLeader(t.Context(), ""), election.ErrUnknownMember)
		require.NoError(t, a.TransferLeader(t.Context(), "a"))
		require.True(t, a.IsLeader(), "none of these has ended the leadership")
		require.NoError(t, a.TransferLeader(t.Context(), "d"))
		released := time.Now()
		require.ErrorIs(t, p.log.all()[0].cause, election.ErrTransferred)
		waitFor(t, time.Minute, "d leads", members["d"].IsLeader)
		require.LessOrEqual(t, time.Since(released), election.DefaultRenewInterval+2*time.Millisecond)
		<-time.After(10 * time.Second)
		require.Equal(t, []string{"d"}, p.leaders())
		p.log.requireSound(t)
	})
}

func TestTrap26TransferToOneThatDoesNotCome(t *testing.T) {
	for name, away := range map[string]func(t *testing.T, p *party, heir *partyMember, memory *storagetest.Memory, cut *atomic.Bool){
		"stopped": func(_ *testing.T, _ *party, _ *partyMember, _ *storagetest.Memory, cut *atomic.Bool) { cut.Store(true) },
		"left": func(_ *testing.T, _ *party, heir *partyMember, _ *storagetest.Memory, _ *atomic.Bool) {
			_ = heir.leave()
		},
		"restarted": restartHeir,
		"resigned": func(t *testing.T, _ *party, heir *partyMember, _ *storagetest.Memory, _ *atomic.Bool) {
			require.NoError(t, heir.ResignLeader(t.Context(), time.Minute))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				p := newParty(t)
				a := p.join("a", memory.Handle(), stopTakes(300*time.Millisecond, &p.log))
				synctest.Wait()
				var cut atomic.Bool
				storage := &hooked{Storage: memory.Handle()}
				storage.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
					if cut.Load() {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return next(ctx)
				}
				heir := p.join("b", storage)
				p.join("c", memory.Handle())
				<-time.After(3 * time.Second)
				ended := make(chan error, 1)
				go func() { ended <- a.TransferLeader(t.Context(), "b") }()
				synctest.Wait() // the drain has begun
				away(t, p, heir, memory, &cut)
				require.NoError(t, <-ended)
				released := time.Now()
				waitFor(t, time.Minute, "somebody leads", func() bool { return len(p.leaders()) == 1 })
				require.LessOrEqual(t, time.Since(released), 2*election.DefaultRenewInterval+2*time.Millisecond)
				p.log.requireSound(t)
			})
		})
	}
}

func restartHeir(_ *testing.T, p *party, heir *partyMember, memory *storagetest.Memory, _ *atomic.Bool) {
	_ = heir.leave()
	p.join("b", memory.Handle())
}

// A target that declines is an error before the drain starts.
func TestTrap26TransferToOneThatDeclines(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		a := p.join("a", open())
		synctest.Wait()
		b := p.join("b", open())
		synctest.Wait()
		require.NoError(t, b.ResignLeader(t.Context(), time.Hour))
		<-time.After(2 * election.DefaultRenewInterval)
		require.ErrorIs(t, a.TransferLeader(t.Context(), "b"), election.ErrUnknownMember)
		require.True(t, a.IsLeader())
		_ = b.leave()
	})
}

// A shutdown in the middle of a transfer still names the heir; a transfer during
// another drain is refused.
func TestTrap26ShutdownDuringATransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle(), stopTakes(time.Second, &p.log))
		synctest.Wait()
		b := p.join("b", memory.Handle())
		p.join("c", memory.Handle())
		<-time.After(3 * time.Second)
		ended := make(chan error, 1)
		go func() { ended <- a.TransferLeader(t.Context(), "b") }()
		synctest.Wait()
		require.ErrorIs(t, a.TransferLeader(t.Context(), "c"), election.ErrNotLeader)
		_ = a.leave()
		require.NoError(t, <-ended)
		waitFor(t, time.Minute, "b leads", b.IsLeader)
		require.Len(t, p.log.all(), 2)
		p.log.requireSound(t)
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

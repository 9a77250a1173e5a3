package election_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// Resignations, transfers, shutdowns, lost leases and callback errors (60 on each storage, 250 in
// the nightly steps), with callbacks that need 300 ms to stop: none overlaps another.
func TestTrap08NoCallbackStartsBeforeTheLastReturned(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		random := rand.New(rand.NewPCG(8, 8))
		var fail [4]atomic.Bool // the member's callback returns an error
		var cut [4]atomic.Bool  // the member's storage fails
		join := func(i int) *partyMember {
			storage := &hooked{Storage: open()}
			storage.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
				if cut[i].Load() {
					return nil, errors.New("cut")
				}
				return next(ctx)
			}
			return p.join(fmt.Sprint("m", i), storage, func(c *election.Config) {
				c.LeaseDuration, c.RenewInterval, c.RenewDeadline = 3*time.Second, 500*time.Millisecond, 2*time.Second
				c.LeaderCallback = func(ctx context.Context) error {
					exit := p.log.enter(ctx, c.ID)
					defer exit()
					for ctx.Err() == nil && !fail[i].CompareAndSwap(true, false) {
						select {
						case <-ctx.Done():
						case <-time.After(10 * time.Millisecond):
						}
					}
					<-time.After(300 * time.Millisecond)
					return errors.New("ended")
				}
			})
		}
		members := []*partyMember{join(0), join(1), join(2), join(3)}
		ends := map[string]int{}
		// A round may meet a reign that another one has ended already, so reigns are counted, not rounds.
		reigns := repeats(50, 200)
		for rounds := 0; len(p.log.all()) < reigns; rounds++ {
			require.Less(t, rounds, 2*reigns, "rounds for %d reigns", len(p.log.all()))
			waitFor(t, time.Minute, "a leader", func() bool { return len(p.leaders()) == 1 })
			var i int
			for j, m := range members {
				if m.IsLeader() {
					i = j
				}
			}
			<-time.After(time.Duration(random.IntN(700)) * time.Millisecond)
			switch kind := random.IntN(5); kind {
			case 0:
				ends["resigned"]++
				_ = members[i].ResignLeader(t.Context(), time.Duration(random.IntN(2))*time.Second)
			case 1:
				ends["transferred"]++
				_ = members[i].TransferLeader(t.Context(), fmt.Sprint("m", (i+1)%4))
			case 2:
				ends["shut down"]++
				_ = members[i].leave()
				members[i] = join(i)
			case 3:
				ends["callback failed"]++
				fail[i].Store(true)
				waitFor(t, time.Minute, "the callback ends", func() bool { return !members[i].IsLeader() })
			case 4:
				ends["storage lost"]++
				cut[i].Store(true)
				waitFor(t, time.Minute, "the leader steps down", func() bool { return !members[i].IsLeader() })
				cut[i].Store(false)
			}
		}
		p.stopAll()
		require.Len(t, ends, 5)
		p.log.requireSound(t)
		t.Logf("%d reigns, ended by %v", len(p.log.all()), ends)
	})
}

// A callback that never returns costs StopTimeout + LeaseDuration: its lease
// lapses, another member leads, this one does not lead again, and RunElection
// still ends.
func TestTrap09CallbackNeverReturns(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		stuck := make(chan struct{})
		a := p.join("a", open(), func(c *election.Config) {
			c.StopTimeout = 3 * time.Second
			c.LeaderCallback = func(context.Context) error { <-stuck; return nil }
		})
		synctest.Wait()
		b := p.join("b", open(), func(c *election.Config) { c.LeaderCallback = stay })
		<-time.After(5 * time.Second)
		resigned := time.Now()
		require.ErrorIs(t, a.ResignLeader(t.Context(), 0), election.ErrCallbackOverrun)
		require.Equal(t, 3*time.Second, time.Since(resigned))
		waitFor(t, time.Minute, "b leads", b.IsLeader)
		require.GreaterOrEqual(t, time.Since(resigned), election.DefaultLeaseDuration)
		require.LessOrEqual(t, time.Since(resigned), 3*time.Second+election.DefaultLeaseDuration+election.DefaultRenewInterval+2*time.Millisecond)
		require.Equal(t, election.StateOverrun, a.Status().State)
		_ = b.leave()
		<-time.After(time.Minute)
		require.False(t, a.IsLeader(), "not before its callback has returned")
		require.ErrorIs(t, a.leave(), election.ErrCallbackOverrun)
		close(stuck)
	})
}

// A callback that returns after it was given up may be followed by another.
func TestTrap09LateReturnEndsTheOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		stuck := make(chan struct{})
		var runs atomic.Int64
		a := p.join("a", storagetest.NewMemory(), func(c *election.Config) {
			c.LeaderCallback = func(ctx context.Context) error {
				if runs.Add(1) == 1 {
					<-stuck
					return nil
				}
				return stay(ctx)
			}
		})
		synctest.Wait()
		require.ErrorIs(t, a.ResignLeader(t.Context(), 0), election.ErrCallbackOverrun)
		<-time.After(time.Minute)
		require.False(t, a.IsLeader())
		close(stuck)
		waitFor(t, time.Minute, "a leads again", a.IsLeader)
		require.Equal(t, int64(2), runs.Load())
	})
}

// A callback overruns, and a backup that names an earlier reign of the same
// process is restored: its lease lapses all the same.
func TestTrap09OverrunUnderARestoredReign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		end := make(chan struct{})
		var runs atomic.Int64
		a := p.join("a", memory.Handle(), func(c *election.Config) {
			c.LeaderCallback = func(ctx context.Context) error {
				run := runs.Add(1)
				<-ctx.Done()
				if run > 1 {
					<-end
				}
				return nil
			}
		})
		synctest.Wait()
		backup := memory.Rows()
		require.NoError(t, a.ResignLeader(t.Context(), 0))
		waitFor(t, time.Minute, "a leads again", a.IsLeader)
		b := p.join("b", memory.Handle())
		<-time.After(5 * time.Second)
		memory.SetRows(backup)
		waitFor(t, 5*time.Minute, "b leads", b.IsLeader)
		require.Equal(t, election.StateOverrun, a.Status().State)
		close(end)
	})
}

func TestTrap19CallbackThatAlwaysFails(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		var runs atomic.Int64
		p.join("a", open(), func(c *election.Config) {
			c.LeaderCallback = func(context.Context) error { runs.Add(1); return errors.New("no") }
		})
		synctest.Wait()
		b := p.join("b", open())
		waitFor(t, time.Minute, "b leads", b.IsLeader)
		_ = b.leave()
		before := runs.Load()
		<-time.After(10 * time.Minute)
		require.Less(t, runs.Load()-before, int64(10*time.Minute/election.DefaultLeaseDuration)+10, "no hot loop")
		require.Greater(t, runs.Load()-before, int64(20), "but it is tried again")
	})
}

// 1,000 terms leave no goroutine behind: a bubble ends only when all of its
// goroutines have.
func TestTrap22NoLeaksPerTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle(), func(c *election.Config) { c.OnEvent = func(election.Event) {} })
		for range 1000 {
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			require.NoError(t, a.ResignLeader(t.Context(), 0))
		}
		require.ErrorIs(t, a.leave(), context.Canceled)
		require.GreaterOrEqual(t, len(p.log.all()), 1000)
		p.log.requireSound(t)
	})
}

// Resign, transfer and cancel from inside the callback return at once.
func TestTrap27FromInsideTheCallback(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, e election.Elector, cancel func()) error{
		"resign": func(ctx context.Context, e election.Elector, _ func()) error { return e.ResignLeader(ctx, time.Minute) },
		"resign twice": func(ctx context.Context, e election.Elector, _ func()) error {
			return errors.Join(e.ResignLeader(ctx, time.Minute), e.ResignLeader(ctx, time.Minute))
		},
		"transfer": func(ctx context.Context, e election.Elector, _ func()) error { return e.TransferLeader(ctx, "b") },
		"cancel":   func(_ context.Context, _ election.Elector, cancel func()) error { cancel(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				p := newParty(t)
				var a *partyMember
				go4 := make(chan struct{})
				asked := make(chan error, 1)
				a = p.join("a", memory.Handle(), func(c *election.Config) {
					c.LeaderCallback = func(ctx context.Context) error {
						exit := p.log.enter(ctx, "a")
						defer exit()
						<-go4
						asked <- end(ctx, a, a.cancel)
						<-ctx.Done()
						<-time.After(300 * time.Millisecond)
						return nil
					}
				})
				synctest.Wait()
				b := p.join("b", memory.Handle())
				<-time.After(3 * time.Second)
				began := time.Now()
				close(go4)
				require.NoError(t, <-asked)
				require.Zero(t, time.Since(began), "it does not wait for itself")
				waitFor(t, time.Minute, "b leads", b.IsLeader)
				require.LessOrEqual(t, time.Since(began), 300*time.Millisecond+2*election.DefaultRenewInterval)
				p.log.requireSound(t)
			})
		})
	}
}

func TestElectorPanicDuringTheDrainIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		a := p.join("a", storagetest.NewMemory(), func(c *election.Config) {
			c.LeaderCallback = func(ctx context.Context) error {
				<-ctx.Done()
				panic("late")
			}
		})
		synctest.Wait()
		err := a.leave()
		var panicked *election.PanicError
		require.ErrorAs(t, err, &panicked)
		require.ErrorIs(t, err, context.Canceled)
	})
}

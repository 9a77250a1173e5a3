package election_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// The traps of docs/guarantees.md that are about the protocol, on virtual time.

// A write that is stored at once and acknowledged late must not lengthen the
// trust: it counts from the start of the call.
func TestTrap06TrustCountsFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var slow atomic.Bool
		var lastStart atomic.Int64
		storage := &hooked{Storage: memory.Handle()}
		storage.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
			lastStart.Store(time.Now().UnixNano())
			err := next(ctx)
			if slow.Load() {
				<-time.After(1900 * time.Millisecond)
			}
			return err
		}
		storage.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
			if slow.Load() && time.Now().UnixNano()-lastStart.Load() > int64(2*time.Second) {
				<-ctx.Done() // after one slow acknowledgement the storage is gone
				return nil, ctx.Err()
			}
			return next(ctx)
		}
		a := p.join("a", storage)
		synctest.Wait()
		require.True(t, a.IsLeader())
		before := lastStart.Load()
		slow.Store(true)
		waitFor(t, time.Minute, "a late renewal", func() bool { return lastStart.Load() != before })
		waitFor(t, time.Minute, "a steps down", func() bool { return !a.IsLeader() })
		trusted := time.Duration(time.Now().UnixNano() - lastStart.Load())
		require.LessOrEqual(t, trusted, election.DefaultRenewDeadline+time.Millisecond)
		require.Greater(t, trusted, election.DefaultRenewDeadline-time.Second, "the late acknowledgement counts, from its start")
	})
}

// A renewal that happens during a read, and is shown by it, must not be dated
// back to the read's start: the observer stamps it with the reply in hand.
func TestTrap06ObservationIsStampedAfterTheRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var lastRenewal, readStart atomic.Int64
		var armed, dead atomic.Bool
		leader := &hooked{Storage: memory.Handle()}
		leader.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
			if dead.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			err := next(ctx)
			now := time.Now().UnixNano()
			if err == nil {
				lastRenewal.Store(now)
				// The leader's last renewal is one that falls late into a read of b.
				dead.Store(armed.Load() && readStart.Load() != 0 && now-readStart.Load() > int64(time.Second))
			}
			return err
		}
		p.join("a", leader)
		synctest.Wait()
		// While a lives, b's reads take 1.9 s and answer with what stands at their end.
		reader := &hooked{Storage: memory.Handle()}
		reader.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
			if !dead.Load() {
				readStart.Store(time.Now().UnixNano())
				<-time.After(1900 * time.Millisecond)
				readStart.Store(0)
			}
			return next(context.WithoutCancel(ctx))
		}
		b := p.join("b", reader)
		<-time.After(20 * time.Second)
		armed.Store(true)
		waitFor(t, time.Hour, "b leads", b.IsLeader)
		silent := time.Duration(time.Now().UnixNano() - lastRenewal.Load())
		require.GreaterOrEqual(t, silent, election.DefaultLeaseDuration)
		require.LessOrEqual(t, silent, election.DefaultLeaseDuration+election.DefaultRenewInterval)
		p.log.requireSound(t)
	})
}

// The callback's ctx ends by RenewDeadline after the start of the last renewal,
// whether the storage fails, hangs, or hangs and ignores its ctx.
func TestTrap07LossOfTheStorage(t *testing.T) {
	for name, broken := range map[string]func(ctx context.Context) error{
		"fails":           func(context.Context) error { return errors.New("connection refused") },
		"hangs":           func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"ignores its ctx": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				p := newParty(t)
				release := make(chan struct{})
				if broken == nil {
					broken = func(context.Context) error { <-release; return errors.New("at last") }
				}
				var gone atomic.Bool
				var lastAcked, started atomic.Int64
				storage := &hooked{Storage: memory.Handle()}
				storage.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
					if gone.Load() {
						return nil, broken(ctx)
					}
					return next(ctx)
				}
				storage.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
					started.Store(time.Now().UnixNano())
					if gone.Load() {
						return broken(ctx)
					}
					err := next(ctx)
					if err == nil {
						lastAcked.Store(started.Load())
					}
					return err
				}
				a := p.join("a", storage)
				synctest.Wait()
				b := p.join("b", memory.Handle())
				<-time.After(time.Minute + 100*time.Millisecond)
				gone.Store(true)
				waitFor(t, time.Minute, "the callback stops", func() bool { return !p.log.all()[0].exit.IsZero() })
				stopped := p.log.all()[0]
				require.False(t, a.IsLeader())
				require.ErrorIs(t, stopped.cause, election.ErrLeaseExpired)
				took := stopped.exit.Sub(time.Unix(0, lastAcked.Load()))
				require.LessOrEqual(t, took, election.DefaultRenewDeadline)
				require.Greater(t, took, election.DefaultRenewDeadline-election.DefaultRenewInterval)
				waitFor(t, time.Minute, "b leads", b.IsLeader)
				a.cancel()
				<-a.done // also while storage calls hang
				close(release)
				p.log.requireSound(t)
			})
		})
	}
}

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

// Every call of the storage once fails after it was done ("commit then error")
// and once before: the election goes on and no term has two callbacks.
func TestTrap10UnknownOutcomes(t *testing.T) {
	lost := errors.New("reply lost")
	for _, stored := range []bool{true, false} {
		for failing := range 12 {
			t.Run(fmt.Sprintf("stored=%v/update %d", stored, failing), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					memory := storagetest.NewMemory()
					p := newParty(t)
					calls := 0
					storage := &hooked{Storage: memory.Handle()}
					storage.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
						calls++
						if calls-1 != failing {
							return next(ctx)
						}
						if stored {
							_ = next(ctx)
						}
						return lost
					}
					a := p.join("a", storage)
					<-time.After(time.Second)
					p.join("b", memory.Handle())
					<-time.After(10 * time.Second)
					require.True(t, a.IsLeader())
					require.NoError(t, a.ResignLeader(t.Context(), 20*time.Second))
					waitFor(t, time.Minute, "b leads", func() bool { return p.log.last().id == "b" })
					<-time.After(time.Minute)
					require.Equal(t, []string{"b"}, p.leaders())
					p.log.requireSound(t)
					require.Len(t, p.log.all(), 2, "one reign each: no write of unknown outcome costs one")
				})
			})
		}
	}
}

// An acquisition whose acknowledgement outlasts the trust it gives starts no
// callback on it: another write is acknowledged first.
func TestTrap10AcquisitionOfUnknownOutcomeIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		storage := &hooked{Storage: memory}
		acquisitions := make(chan time.Time, 10)
		storage.update = func(ctx context.Context, r *election.Record, changed bool, next func(context.Context) error) error {
			err := next(ctx)
			if changed && r.LeaderID != "" {
				acquisitions <- time.Now()
				if r.Term == 1 {
					<-time.After(9 * time.Second) // stored, and the reply comes after RenewDeadline
				}
			}
			return err
		}
		a := p.join("a", storage)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		require.Len(t, acquisitions, 2)
		<-acquisitions
		first := p.log.all()[0]
		require.False(t, first.enter.Before(<-acquisitions))
		require.Equal(t, uint64(2), first.term)
		<-time.After(10 * time.Second) // until the held reply has come
		require.Len(t, p.log.all(), 1)
	})
}

func TestTrap11FiftyCreators(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		for i := range 50 {
			p.join(fmt.Sprintf("m%02d", i), open())
		}
		<-time.After(5 * time.Second)
		require.Len(t, p.leaders(), 1)
		require.Len(t, p.leader().GetMembers(), 50)
		require.Len(t, p.log.all(), 1)
	})
}

func TestTrap11ResignBeforeTheFirstRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := election.NewElector(election.Config{ID: "a", Storage: storagetest.NewMemory(), LeaderCallback: stay})
		require.NoError(t, err)
		require.NoError(t, e.ResignLeader(t.Context(), time.Minute))
		started := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.RunElection(ctx) }()
		waitFor(t, 2*time.Minute, "a leads", e.IsLeader)
		require.GreaterOrEqual(t, time.Since(started), time.Minute)
		cancel()
		<-ended
	})
}

// The rows vanish, or go back to a backup, under a running leader, while a
// follower that saw them looks every few ms: no overlap, and a higher term.
func TestTrap11HistoryLost(t *testing.T) {
	for name, rewind := range map[string]func(backup storagetest.Rows) storagetest.Rows{
		"rows deleted": func(storagetest.Rows) storagetest.Rows { return storagetest.Rows{} },
		"record row deleted": func(storagetest.Rows) storagetest.Rows {
			return storagetest.Rows{Leader: &storagetest.LeaderRow{LeaderID: "z", Term: 2_000_000}}
		},
		"restored":           func(backup storagetest.Rows) storagetest.Rows { return backup },
		"leader row deleted": func(backup storagetest.Rows) storagetest.Rows { return storagetest.Rows{Record: backup.Record} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				// A term far above what versions alone would give.
				require.NoError(t, memory.Update(t.Context(), &election.Record{Term: 1_000_000}, true))
				p := newParty(t)
				eager := func(c *election.Config) {
					c.RenewInterval = time.Millisecond
					c.LeaderCallback = p.log.callback(c.ID, 300*time.Millisecond)
				}
				a := p.join("a", memory.Handle(), stopTakes(300*time.Millisecond, &p.log))
				synctest.Wait()
				b := p.join("b", memory.Handle(), eager)
				<-time.After(3 * time.Second)
				backup := memory.Rows()
				<-time.After(10 * time.Second)
				before, _ := a.Term()
				now := memory.Rows()
				if name == "leader row deleted" {
					backup = now
				}
				memory.SetRows(rewind(backup))
				waitFor(t, time.Minute, "a stops", func() bool { return !p.log.all()[0].exit.IsZero() })
				require.ErrorIs(t, p.log.all()[0].cause, election.ErrHistoryLost)
				waitFor(t, time.Minute, "somebody leads", func() bool { return len(p.log.all()) == 2 && len(p.leaders()) == 1 })
				require.Greater(t, p.log.last().term, before)
				if name == "record row deleted" {
					require.Greater(t, p.log.last().term, uint64(2_000_000))
				}
				<-time.After(15 * time.Second)
				require.Len(t, p.leaders(), 1)
				_ = b.leave()
				_ = a.leave()
				p.log.requireSound(t)
			})
		})
	}
}

// A newcomer that has seen nothing leads above every term that a live member
// remembers, once such a member has written.
func TestTrap11TermFloorReachesNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		<-time.After(time.Minute)
		before, _ := a.Term()
		require.Equal(t, uint64(1), before)
		rows := memory.Rows()
		rows.Record.Term, rows.Leader.Term = 500, 500
		memory.SetRows(rows)
		waitFor(t, time.Minute, "a leads anew", func() bool { term, _ := a.Term(); return term > 500 })
		memory.SetRows(storagetest.Rows{})
		waitFor(t, time.Minute, "a writes again", func() bool { return memory.Rows().Record != nil })
		c := p.join("c", memory.Handle())
		synctest.Wait()
		a.cancel()
		waitFor(t, time.Minute, "c leads", c.IsLeader)
		term, _ := c.Term()
		require.Greater(t, term, uint64(501))
	})
}

// Two processes with one ID: at most one ever runs its callback, the other's
// RunElection says so.
func TestTrap12SameIDTwice(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		first := p.join("a", open())
		synctest.Wait()
		second := p.join("a", open())
		waitFor(t, time.Minute, "the second one ends", second.ended)
		require.ErrorIs(t, second.err, election.ErrDuplicateMember)
		<-time.After(time.Minute)
		require.True(t, first.IsLeader())
		require.Len(t, p.log.all(), 1)
	})
}

// Two that start at the same moment: one at most stays.
func TestTrap12SameIDAtTheSameMoment(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		one, two := p.join("a", open()), p.join("a", open())
		<-time.After(time.Minute)
		require.NotEqual(t, one.IsLeader(), two.IsLeader())
		p.log.requireSound(t)
		require.Len(t, p.log.all(), 1)
	})
}

// A restart after a crash waits for one lease of the old entry, then leads.
func TestTrap12RestartWithTheSameID(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		var crashed atomic.Bool
		storage := &hooked{Storage: open()}
		storage.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
			if crashed.Load() {
				return nil, errors.New("crashed")
			}
			return next(ctx)
		}
		p.join("a", storage)
		<-time.After(5 * time.Second)
		crashed.Store(true)
		restarted := time.Now()
		again := p.join("a", open())
		waitFor(t, time.Minute, "a leads again", again.IsLeader)
		require.GreaterOrEqual(t, time.Since(restarted), election.DefaultLeaseDuration)
		require.LessOrEqual(t, time.Since(restarted), election.DefaultLeaseDuration+election.DefaultRenewInterval)
		p.log.requireSound(t)
	})
}

// A restarted member whose reads lag sees its earlier process's entry catch up,
// and takes that for no rival.
func TestTrap12RestartOnALaggingReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var crashed atomic.Bool
		var mu sync.Mutex
		var past []*election.Record
		storage := &hooked{Storage: memory.Handle()}
		storage.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
			if crashed.Load() {
				return nil, errors.New("crashed")
			}
			record, err := next(ctx)
			mu.Lock()
			defer mu.Unlock()
			past = append(past, record.Clone())
			return record, err
		}
		p.join("a", storage)
		<-time.After(15 * time.Second)
		crashed.Store(true)
		mu.Lock()
		past = past[len(past)-4:]
		mu.Unlock()
		lagging := &hooked{Storage: memory.Handle()}
		lagging.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			if len(past) == 0 {
				return next(ctx)
			}
			record := past[0]
			past = past[1:]
			return record, nil
		}
		again := p.join("a", lagging)
		waitFor(t, time.Minute, "a leads again", again.IsLeader)
		p.log.requireSound(t)
	})
}

// A member that finds another process's nonce in its own entry stops at once.
func TestTrap12EntryTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		<-time.After(5 * time.Second)
		rows := memory.Rows()
		rows.Record.Members[0].Nonce = "somebody else"
		rows.Record.Version++
		memory.SetRows(rows)
		<-a.done
		require.ErrorIs(t, a.err, election.ErrDuplicateMember)
		require.ErrorIs(t, p.log.all()[0].cause, election.ErrDuplicateMember)
		require.Equal(t, "somebody else", memory.Rows().Record.Members[0].Nonce, "the other's entry is left alone")
	})
}

// A leader whose wall clock stands still is not deposed.
func TestTrap14FrozenRenewTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		frozen := time.Now()
		storage := &hooked{Storage: memory.Handle()}
		storage.update = func(ctx context.Context, r *election.Record, changed bool, _ func(context.Context) error) error {
			r = r.Clone()
			if own, ok := r.FindMember("a"); ok {
				own.RenewTime = frozen
			}
			return memory.Update(ctx, r, changed)
		}
		a := p.join("a", storage)
		synctest.Wait()
		p.join("b", memory.Handle())
		<-time.After(5 * time.Minute)
		require.True(t, a.IsLeader())
		require.Len(t, p.log.all(), 1)
	})
}

// Reads of a lagging replica, alternating with fresh ones: safe, and the leader
// still leads.
func TestTrap16StaleReads(t *testing.T) {
	for _, lag := range []int{1, 3, 10} {
		t.Run(fmt.Sprint("lag ", lag), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				p := newParty(t)
				var mu sync.Mutex
				var history []*election.Record
				stale := func() election.Storage {
					reads := 0
					s := &hooked{Storage: memory.Handle()}
					s.update = func(ctx context.Context, r *election.Record, _ bool, next func(context.Context) error) error {
						err := next(ctx)
						if err == nil {
							stored := r.Clone()
							stored.Version++
							mu.Lock()
							history = append(history, stored)
							mu.Unlock()
						}
						return err
					}
					s.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
						mu.Lock()
						defer mu.Unlock()
						if reads++; reads%2 == 0 && len(history) > lag {
							return history[len(history)-1-lag].Clone(), nil
						}
						return next(ctx)
					}
					return s
				}
				a := p.join("a", stale())
				synctest.Wait()
				b := p.join("b", stale())
				p.join("c", stale())
				<-time.After(10 * time.Minute)
				require.True(t, a.IsLeader())
				require.Len(t, p.log.all(), 1)
				require.Len(t, a.GetMembers(), 3)
				_ = a.leave()
				waitFor(t, time.Minute, "another leads", func() bool { return len(p.leaders()) == 1 })
				require.NotNil(t, b)
				p.log.requireSound(t)
			})
		})
	}
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

// A second resignation joins the first: both return when the leadership is
// released.
func TestTrap27SecondResignationJoinsTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory, stopTakes(time.Second, &p.log))
		synctest.Wait()
		ended := make(chan error, 3)
		for range 2 {
			go func() { ended <- a.ResignLeader(t.Context(), time.Minute) }()
		}
		go func() { ended <- a.TransferLeader(t.Context(), "a") }()
		began := time.Now()
		for range 3 {
			<-ended
		}
		require.Equal(t, time.Second, time.Since(began).Truncate(time.Millisecond))
		require.Len(t, p.log.all(), 1)
		require.Empty(t, memory.Rows().Record.LeaderID)
	})
}

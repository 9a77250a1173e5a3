package election_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// Schedules that once broke a promise, each the shortest that does.

// cutOff is a handle on memory that fails while on is set.
func cutOff(memory *storagetest.Memory, on *atomic.Bool) election.Storage {
	return cut{memory.Handle(), on}
}

type cut struct {
	*storagetest.Memory
	on *atomic.Bool
}

func (c cut) Get(ctx context.Context) (*election.Record, error) {
	if c.on.Load() {
		return nil, errors.New("cut off")
	}
	return c.Memory.Get(ctx)
}

func TestElectorLeaderKnowsItselfAfterALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		a := p.join("a", storagetest.NewMemory())
		<-time.After(time.Minute)
		require.True(t, a.IsLeader())
		leader, ok := a.GetLeader()
		require.True(t, ok)
		require.Equal(t, "a", leader.ID)
		require.Equal(t, "a", a.Status().Leadership.Leader.ID)
		require.Equal(t, "a", (<-a.Observe(t.Context())).Leader.ID)
	})
}

// A lease that runs out while a follower's own renewal is under way is acted on
// when that ends, not a poll later.
func TestElectorTakesOverRightAfterItsOwnRenewal(t *testing.T) {
	for i := range 20 {
		synctest.Test(t, func(t *testing.T) {
			memory := storagetest.NewMemory()
			p := newParty(t)
			var dead atomic.Bool
			p.join("a", cutOff(memory, &dead))
			synctest.Wait()
			const latency = 400 * time.Millisecond
			var seen, renewals atomic.Int64
			slow := &hooked{Storage: memory.Handle()}
			slow.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
				r, err := next(ctx)
				if a, ok := r.FindMember("a"); ok && renewals.Swap(int64(a.Renewals)) != int64(a.Renewals) {
					seen.Store(time.Now().UnixNano())
				}
				return r, err
			}
			slow.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
				defer func() { <-time.After(latency) }()
				return next(ctx)
			}
			b := p.join("b", slow)
			<-time.After(20*time.Second + time.Duration(i)*100*time.Millisecond)
			dead.Store(true)
			waitFor(t, time.Minute, "b leads", b.IsLeader)
			require.LessOrEqual(t, time.Duration(time.Now().UnixNano()-seen.Load()),
				election.DefaultLeaseDuration+2*latency+10*time.Millisecond)
		})
	}
}

// Rows deleted soon after many members joined: the versions grow past what some
// had seen before those look again, and still nobody overlaps.
func TestTrap11LostHistoryThatHasGrownAgain(t *testing.T) {
	for _, leaderRowStays := range []bool{false, true} {
		for i := range 20 {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				p := newParty(t)
				for n := range 5 + i {
					p.join(fmt.Sprint("m", n), memory.Handle())
				}
				<-time.After(time.Second)
				rows := memory.Rows()
				rows.Record = nil
				if !leaderRowStays {
					rows.Leader = nil
				}
				memory.SetRows(rows)
				<-time.After(30 * time.Second)
				require.Len(t, p.leaders(), 1)
				p.stopAll()
				p.log.requireSound(t)
			})
		}
	}
}

// A member that comes back with an older memory does not make the record forget
// a higher term.
func TestTrap11FloorSurvivesAMemberThatKnowsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var cutB, cutC atomic.Bool
		b := p.join("b", cutOff(memory, &cutB))
		<-time.After(21 * time.Second)
		require.True(t, b.IsLeader())
		cutB.Store(true)
		<-time.After(time.Second)
		memory.SetRows(storagetest.Rows{ // the election went on without b
			Record: &election.Record{Version: 600, Term: 500}, Leader: &storagetest.LeaderRow{Term: 500},
		})
		c := p.join("c", cutOff(memory, &cutC))
		<-time.After(3 * time.Second)
		term, leads := c.Term()
		require.True(t, leads)
		memory.SetRows(storagetest.Rows{})
		waitFor(t, time.Minute, "c writes what it remembers", func() bool { return memory.Rows().Record != nil })
		require.Equal(t, term, memory.Rows().Record.TermFloor)
		cutC.Store(true)
		cutB.Store(false)
		waitFor(t, 2*time.Minute, "b leads", func() bool { return p.log.last().id == "b" && b.IsLeader() })
		require.Greater(t, p.log.last().term, term)
	})
}

// A backup from the time of an earlier process with this ID is restored, and has
// grown before we look: that is lost history, not a second process.
func TestTrap12RestoredEntryIsNoRival(t *testing.T) {
	for range 50 {
		synctest.Test(t, restoredEntry)
	}
}

func restoredEntry(t *testing.T) {
	memory := storagetest.NewMemory()
	p := newParty(t)
	for i := range 8 {
		p.join(fmt.Sprint("m", i), memory.Handle())
	}
	earlier := p.join("a", memory.Handle())
	<-time.After(5 * time.Second) // virtual time
	backup := memory.Rows()
	_ = earlier.leave()
	a := p.join("a", memory.Handle())
	<-time.After(50 * time.Millisecond) // virtual time
	memory.SetRows(backup)
	<-time.After(20 * time.Second) // virtual time
	require.False(t, a.ended(), "%v", a.err)
	require.Len(t, a.GetMembers(), 9)
}

// A follower whose entry a living process replaced ends all the same.
func TestTrap12FollowersEntryTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		p.join("leader", memory.Handle())
		synctest.Wait()
		var cut atomic.Bool
		a := p.join("a", cutOff(memory, &cut))
		<-time.After(5 * time.Second)
		cut.Store(true)
		again := p.join("a", memory.Handle())
		<-time.After(15 * time.Second)
		cut.Store(false)
		waitFor(t, time.Minute, "the first process ends", a.ended)
		require.ErrorIs(t, a.err, election.ErrDuplicateMember)
		require.False(t, again.ended())
	})
}

// The leader crashes and restarts, but is kept from campaigning: it gives up what
// its earlier process held, and another member leads.
func TestTrap12RestartThatDeclines(t *testing.T) {
	for name, storage := range map[string]func(election.Storage) election.Storage{
		"apart":         func(s election.Storage) election.Storage { return s },
		"in the record": func(s election.Storage) election.Storage { return plain{s} },
	} {
		t.Run(name, func(t *testing.T) { restartThatDeclines(t, storage) })
	}
}

func restartThatDeclines(t *testing.T, storage func(election.Storage) election.Storage) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var dead atomic.Bool
		p.join("a", storage(cutOff(memory, &dead)))
		synctest.Wait()
		dead.Store(true)
		again := p.join("a", storage(memory.Handle()))
		synctest.Wait()
		require.NoError(t, again.ResignLeader(t.Context(), 24*time.Hour))
		<-time.After(15 * time.Second) // virtual time
		b := p.join("b", storage(memory.Handle()))
		waitFor(t, time.Minute, "b leads", b.IsLeader)
		p.log.requireSound(t)
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

func TestElectorLongerResignationStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := election.NewElector(election.Config{ID: "a", Storage: storagetest.NewMemory(), LeaderCallback: stay})
		require.NoError(t, err)
		require.NoError(t, e.ResignLeader(t.Context(), time.Hour))
		require.NoError(t, e.ResignLeader(t.Context(), 0))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.RunElection(ctx) }()
		<-time.After(time.Minute)
		require.False(t, e.IsLeader())
		cancel()
		<-ended
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

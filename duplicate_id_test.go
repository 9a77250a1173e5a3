package election_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

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

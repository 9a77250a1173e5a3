package election_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/storagetest"
)

// plain hides every ability of a Storage but Get and Update.
type plain struct{ election.Storage }

func idsOf(members []*election.Member) (ids []string) {
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	return ids
}

// Followers renew rows of their own. The record holds the leader alone, and its
// version grows with the leader's renewals alone.
func TestMembersRenewApart(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		members := map[string]*partyMember{}
		for _, id := range []string{"a", "b", "c"} {
			members[id] = p.join(id, open())
			waitFor(t, time.Minute, "a leads", members["a"].IsLeader)
		}
		<-time.After(2*election.DefaultRenewInterval + time.Second)
		for id, m := range members {
			require.Equal(t, []string{"a", "b", "c"}, idsOf(m.GetMembers()), "as %s sees it", id)
		}
		before, err := open().Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, idsOf(before.Members))
		const polls = 20
		<-time.After(polls * election.DefaultRenewInterval)
		after, err := open().Get(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, after.Version, before.Version+polls*10/9+2)
		for id, m := range members {
			require.Equal(t, []string{"a", "b", "c"}, idsOf(m.GetMembers()), "as %s sees it", id)
		}
		require.Len(t, p.log.all(), 1)
	})
}

// A member that knows only Get and Update sees everybody in the record, and is
// seen; when it has gone, the others keep apart again.
func TestMembersMeetInTheRecordWhileOneNeedsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a, b := p.join("a", memory.Handle()), p.join("b", memory.Handle())
		waitFor(t, time.Minute, "one leads", func() bool { return p.leader() != nil })
		older := p.join("older", plain{memory.Handle()})
		<-time.After(3 * election.DefaultRenewInterval)
		for _, m := range []*partyMember{a, b, older} {
			require.Equal(t, []string{"a", "b", "older"}, idsOf(m.GetMembers()))
		}
		require.Equal(t, []string{"a", "b", "older"}, idsOf(memory.Rows().Record.Members))
		_ = older.leave()
		<-time.After(3 * election.DefaultRenewInterval)
		require.Len(t, memory.Rows().Record.Members, 1)
		for _, m := range []*partyMember{a, b} {
			require.Equal(t, []string{"a", "b"}, idsOf(m.GetMembers()))
		}
		require.Len(t, p.log.all(), 1)
	})
}

// Only the leader removes the row of a member that is silent, after its lease; the
// member comes back by itself.
func TestLeaderRemovesSilentMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		var cut atomic.Bool
		p.join("b", cutOff(memory, &cut))
		c := p.join("c", memory.Handle())
		<-time.After(5 * time.Second)
		cut.Store(true)
		<-time.After(election.DefaultLeaseDuration - election.DefaultRenewInterval)
		require.Contains(t, memory.Rows().Members, "b")
		<-time.After(3*election.DefaultRenewInterval + time.Second)
		require.Equal(t, []string{"a", "c"}, slices.Sorted(maps.Keys(memory.Rows().Members)), "the leader's own row stays")
		<-time.After(2 * election.DefaultRenewInterval)
		require.Equal(t, []string{"a", "c"}, idsOf(c.GetMembers()))
		cut.Store(false)
		<-time.After(4 * election.DefaultRenewInterval) // b tries again, the leader looks, tells, and c looks
		require.Equal(t, []string{"a", "b", "c"}, idsOf(c.GetMembers()))
		require.Len(t, p.log.all(), 1)
	})
}

// A crashed leader's row, older than what it last wrote as leader, is removed by the
// next one at once: nobody has to wait for it twice.
func TestLeaderRemovesItsPredecessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var dead atomic.Bool
		a := p.join("a", cutOff(memory, &dead))
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		b := p.join("b", memory.Handle())
		<-time.After(30 * time.Second)
		dead.Store(true)
		waitFor(t, time.Minute, "b leads", b.IsLeader)
		<-time.After(election.DefaultRenewInterval)
		require.Equal(t, []string{"b"}, slices.Sorted(maps.Keys(memory.Rows().Members)))
	})
}

// snatched removes b's row, once, just before b's change of leader is stored.
type snatched struct {
	*storagetest.Memory
	once *sync.Once
}

func (s snatched) snatch(changed bool) {
	if !changed {
		return
	}
	s.once.Do(func() {
		rows := s.Rows()
		delete(rows.Members, "b")
		s.SetRows(rows)
	})
}

func (s snatched) Update(ctx context.Context, r *election.Record, changed bool) error {
	s.snatch(changed)
	return s.Memory.Update(ctx, r, changed)
}

func (s snatched) UpdateWithMember(ctx context.Context, r *election.Record, changed bool, before, after *election.Member) error {
	s.snatch(changed)
	return s.Memory.UpdateWithMember(ctx, r, changed, before, after)
}

// A member whose row is gone is a member again before, or as, it leads.
func TestMemberWhoseRowIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		member := make(chan bool, 1)
		b := p.join("b", snatched{memory.Handle(), new(sync.Once)}, func(c *election.Config) {
			c.LeaderCallback = func(ctx context.Context) error {
				_, ok := memory.Rows().Members["b"]
				member <- ok
				return stay(ctx)
			}
		})
		<-time.After(5 * time.Second)
		_ = a.leave()
		waitFor(t, time.Minute, "b leads", b.IsLeader)
		require.True(t, <-member)
	})
}

// The members' rows alone go back: whoever finds its own entry older than it was
// leads nobody before a whole lease has passed.
func TestMemberRowsGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		lost := make(chan struct{}, 100)
		p.join("b", memory.Handle(), func(c *election.Config) {
			c.OnEvent = func(e election.Event) {
				if e.Kind == election.EventHistoryLost {
					lost <- struct{}{}
				}
			}
		})
		<-time.After(5 * time.Second)
		backup := memory.Rows()
		<-time.After(10 * time.Second)
		rows := memory.Rows()
		rows.Members = backup.Members
		memory.SetRows(rows)
		waitFor(t, time.Minute, "b notices", func() bool { return len(lost) > 0 })
		<-time.After(time.Minute)
		require.Len(t, lost, 1, "once")
		require.Equal(t, []string{"a", "b"}, idsOf(a.GetMembers()))
		require.Len(t, p.log.all(), 1)
	})
}

// A record that was deleted, and created by another process, is another history
// also where its version and term say nothing.
func TestRecordDeletedAndCreatedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		rows := memory.Rows()
		rows.Record.History = "of somebody who created it since"
		rows.Record.Version++
		memory.SetRows(rows)
		waitFor(t, time.Minute, "a steps down", func() bool { return !a.IsLeader() })
		require.ErrorIs(t, p.log.all()[0].cause, election.ErrHistoryLost)
		waitFor(t, time.Minute, "a leads again", a.IsLeader)
		p.log.requireSound(t)
	})
}

// An observer sees those members too.
func TestObserverSeesMembersApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		for _, id := range []string{"a", "b", "c"} {
			p.join(id, memory.Handle())
		}
		o, err := election.NewObserver(memory.Handle(), election.ObserverConfig{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(p.ctx)
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		<-time.After(time.Minute)
		require.Equal(t, []string{"a", "b", "c"}, idsOf(o.GetMembers()))
		for id, m := range p.members {
			if !m.IsLeader() {
				_ = m.leave()
				delete(p.members, id)
				break
			}
		}
		<-time.After(3 * election.DefaultRenewInterval)
		require.Len(t, o.GetMembers(), 2)
		cancel()
		<-ended
	})
}

// Trap 29: a wrapper of this library's has the abilities of what it wraps, and no
// others; one that hides an ability only costs what the ability saves.
func TestTrap29WrappersForwardAbilities(t *testing.T) {
	memory := storagetest.NewMemory()
	_, apart := storagetest.WithFaults(memory, storagetest.Faults{}, 1).(election.MemberStorage)
	require.True(t, apart)
	_, apart = storagetest.WithFaults(plain{memory}, storagetest.Faults{}, 1).(election.MemberStorage)
	require.False(t, apart)
}

// Where rows may not be removed, members meet in the record.
func TestMembersWithoutTheRightToRemove(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		kind.must(t, db.Open(t)) // creates the table
		handle := restricted(t, db, "SELECT, INSERT, UPDATE").Open(t)
		s := kind.must(t, handle)
		err := s.(election.MemberStorage).UpdateMember(t.Context(), nil, &election.Member{ID: "x"})
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, "DELETE")
		p := newParty(t)
		a, b := p.join("a", s, quickLease), p.join("b", kind.must(t, handle), quickLease)
		waitFor(t, time.Minute, "both are members", func() bool { return len(a.GetMembers()) == 2 && len(b.GetMembers()) == 2 })
		record, err := s.Get(t.Context())
		require.NoError(t, err)
		require.Len(t, record.Members, 2)
	})
}

package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/sqldb"
	"github.com/sqlelect/election/storagetest"
)

// What goes wrong with entries that are kept apart.

// tapped is a MemberStorage with something before its calls.
type tapped struct {
	*storagetest.Memory
	get     func() error
	members func(ids []string) ([]*election.Member, error, bool)
	member  func(before, after *election.Member) error
}

func (s tapped) Get(ctx context.Context) (*election.Record, error) {
	if s.get != nil {
		if err := s.get(); err != nil {
			return nil, err
		}
	}
	return s.Memory.Get(ctx)
}

func (s tapped) GetMembers(ctx context.Context, ids ...string) ([]*election.Member, error) {
	if s.members != nil {
		if found, err, done := s.members(ids); done {
			return found, err
		}
	}
	return s.Memory.GetMembers(ctx, ids...)
}

func (s tapped) UpdateMember(ctx context.Context, before, after *election.Member) error {
	if s.member != nil {
		if err := s.member(before, after); err != nil {
			return err
		}
	}
	return s.Memory.UpdateMember(ctx, before, after)
}

// Rule 16: the leader's entry is lost from the record, under a follower that had not
// looked for a while. The leader's row is no sign of its reign: its lease is waited for.
func TestLeaderWithoutAnEntryButWithARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		var off atomic.Bool
		p.join("b", cutOff(memory, &off))
		<-time.After(30 * time.Second)
		v := memory.Rows().Record.Version
		waitFor(t, time.Minute, "a renews", func() bool { return memory.Rows().Record.Version > v })
		<-time.After(election.DefaultRenewInterval * 95 / 100 / 2) // b has looked in between, most likely
		off.Store(true)
		<-time.After(8 * time.Second)
		v = memory.Rows().Record.Version
		waitFor(t, time.Minute, "a renews", func() bool { return memory.Rows().Record.Version > v })
		<-time.After(50 * time.Millisecond)
		rows := memory.Rows()
		rows.Record.Members = nil
		rows.Record.Version++
		memory.SetRows(rows)
		off.Store(false)
		waitFor(t, time.Minute, "another reign", func() bool { return len(p.log.all()) > 1 })
		p.log.requireSound(t)
	})
}

// A follower that was evicted, and whose first insert fails, has lost no history.
func TestEvictedFollowerTriesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		var off atomic.Bool
		var failed atomic.Int32
		var lost atomic.Int32
		p.join("b", tapped{Memory: memory.Handle(), get: func() error {
			if off.Load() {
				return errors.New("cut off")
			}
			return nil
		}, member: func(before, _ *election.Member) error {
			if before == nil && failed.Load() == 1 {
				failed.Store(2)
				return errors.New("no answer")
			}
			return nil
		}}, func(c *election.Config) {
			c.OnEvent = func(e election.Event) {
				if e.Kind == election.EventHistoryLost {
					lost.Add(1)
				}
			}
		})
		<-time.After(10 * time.Second)
		off.Store(true)
		waitFor(t, time.Minute, "b is evicted", func() bool { return memory.Rows().Members["b"] == nil })
		<-time.After(5 * time.Second)
		failed.Store(1)
		off.Store(false)
		<-time.After(10 * time.Second)
		require.EqualValues(t, 2, failed.Load())
		require.NotNil(t, memory.Rows().Members["b"])
		require.Zero(t, lost.Load(), "history was not lost")
	})
}

// Where only the members cannot be read, the election goes on at its pace.
func TestMembersUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var gets atomic.Int32
		s := func() election.Storage {
			return tapped{Memory: memory.Handle(), get: func() error { gets.Add(1); return nil },
				members: func(ids []string) ([]*election.Member, error, bool) {
					return nil, errors.New("decode entry"), len(ids) == 0
				}}
		}
		a := p.join("a", s())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		gets.Store(0)
		<-time.After(10 * time.Second)
		require.Less(t, gets.Load(), int32(30))
	})
}

// unsupported is a Storage whose Update always fails, and counts.
type unsupported struct {
	election.Storage
	n *atomic.Int32
}

func (u unsupported) Update(context.Context, *election.Record, bool) error {
	u.n.Add(1)
	return fmt.Errorf("sendto: %w", errors.ErrUnsupported)
}

// An Update that fails with errors.ErrUnsupported fails like any other.
func TestUnsupportedUpdate(t *testing.T) {
	var n atomic.Int32
	var events atomic.Int32
	p := newParty(t)
	p.join("a", unsupported{plain{storagetest.NewMemory()}, &n}, func(c *election.Config) {
		c.OnEvent = func(election.Event) { events.Add(1) }
	})
	waitFor(t, time.Minute, "some have failed", func() bool { return events.Load() > 5 })
	require.LessOrEqual(t, n.Load(), events.Load()+1, "each is reported, and followed by a pause")
}

// A leader that knows only the record watches nobody's row: the others look themselves.
func TestMemberThatLeftUnderAnOlderLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		b, c := p.join("b", memory.Handle()), p.join("c", memory.Handle())
		<-time.After(10 * time.Second)
		older := p.join("older", plain{memory.Handle()})
		<-time.After(10 * time.Second)
		require.NoError(t, a.TransferLeader(t.Context(), "older"))
		waitFor(t, time.Minute, "older leads", older.IsLeader)
		<-time.After(10 * time.Second)
		_ = c.leave()
		<-time.After(10 * time.Minute)
		require.Equal(t, []string{"a", "b", "older"}, idsOf(older.GetMembers()))
		require.Equal(t, []string{"a", "b", "older"}, idsOf(b.GetMembers()), "as b sees it")
	})
}

// A reign may be transferred as soon as it has begun.
func TestTransferAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		var b *partyMember
		var once sync.Once
		result := make(chan error, 1)
		b = p.join("b", tapped{Memory: memory.Handle(), members: func(ids []string) ([]*election.Member, error, bool) {
			<-time.After(5 * time.Millisecond) // virtual time
			return nil, nil, false
		}}, func(c *election.Config) {
			c.LeaderCallback = func(ctx context.Context) error {
				once.Do(func() { result <- b.TransferLeader(ctx, "c") })
				return stay(ctx)
			}
		})
		c := p.join("c", memory.Handle())
		<-time.After(time.Minute)
		require.NoError(t, a.TransferLeader(t.Context(), "b"))
		require.NoError(t, <-result)
		waitFor(t, time.Minute, "c leads", c.IsLeader)
	})
}

// An observer needs no right but to read.
func TestReadOnlyObserver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := sqldb.Open("sqlite:" + path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	s, err := election.NewSQLStorage(db, "")
	require.NoError(t, err)
	p := newParty(t)
	a := p.join("a", s, quickLease)
	waitFor(t, 10*time.Second, "a leads", a.IsLeader)
	p.join("b", s, quickLease)
	waitFor(t, 10*time.Second, "both", func() bool { return len(a.GetMembers()) == 2 })
	ro, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(1000)&_pragma=query_only(1)")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ro.Close() })
	rs, err := election.NewSQLStorage(ro, "")
	require.NoError(t, err)
	o, err := election.NewObserver(rs, election.ObserverConfig{PollInterval: 100 * time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	waitFor(t, 30*time.Second, "it sees both", func() bool { return len(o.GetMembers()) == 2 })
	cancel()
	<-ended
}

// The leader's own row is gone: the others do not read all members again and again.
func TestLeadersRowGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		var all atomic.Int32
		p.join("b", tapped{Memory: memory.Handle(), members: func(ids []string) ([]*election.Member, error, bool) {
			if len(ids) == 0 {
				all.Add(1)
			}
			return nil, nil, false
		}})
		<-time.After(30 * time.Second)
		rows := memory.Rows()
		delete(rows.Members, "a")
		memory.SetRows(rows)
		all.Store(0)
		<-time.After(10 * time.Minute) // b may notice once, by another change
		c := p.join("c", memory.Handle())
		_ = c
		<-time.After(10 * time.Second)
		all.Store(0)
		<-time.After(10 * time.Minute)
		require.Less(t, all.Load(), int32(10))
	})
}

// hangs is a MemberStorage whose reading of all members does, while on is set.
type hangs struct {
	*storagetest.Memory
	on *atomic.Bool
}

func (s hangs) GetMembers(ctx context.Context, ids ...string) ([]*election.Member, error) {
	if s.on.Load() && len(ids) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Memory.GetMembers(ctx, ids...)
}

// A look at all members that hangs holds up nothing.
func TestLeaveWhileMembersAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var on atomic.Bool
		a := p.join("a", hangs{memory.Handle(), &on})
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		<-time.After(5 * time.Second)
		on.Store(true)
		v := memory.Rows().Record.Version
		waitFor(t, time.Minute, "a renews", func() bool { return memory.Rows().Record.Version > v })
		began := time.Now()
		_ = a.leave()
		require.Empty(t, memory.Rows().Record.LeaderID)
		require.Less(t, time.Since(began), time.Second)
	})
}

// A member row that somebody has spoilt does not hide the others.
func TestUnreadableMemberRow(t *testing.T) {
	db, err := sqldb.Open("sqlite:" + filepath.Join(t.TempDir(), "x.db"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	s, err := election.NewSQLStorage(db, "")
	require.NoError(t, err)
	_, err = db.Exec(`INSERT INTO election (id, leader_id, record, version, election, slot) VALUES (12345, 'x', 'oops', 1, '', 4711)`)
	require.NoError(t, err)
	p := newParty(t)
	var errs atomic.Int32
	count := func(c *election.Config) {
		c.OnEvent = func(e election.Event) {
			if e.Kind == election.EventStorageError {
				errs.Add(1)
			}
		}
	}
	a := p.join("a", s, count)
	waitFor(t, 10*time.Second, "a leads", a.IsLeader)
	b := p.join("b", s, count)
	waitFor(t, 30*time.Second, "they see each other", func() bool { return len(a.GetMembers()) == 2 && len(b.GetMembers()) == 2 })
	require.Less(t, errs.Load(), int32(20))
}

// Values that an older table cannot hold are refused, and not stored in part.
func TestMemberRowsInAnOlderTable(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "mysql" {
			t.Skip("its texts hold whatever there is")
		}
		admin := db.Open(t)
		dbtest.Exec(t, admin, "CREATE TABLE election (id int(10) unsigned NOT NULL, leader_id varchar(255) DEFAULT NULL,"+
			" record text DEFAULT NULL, version bigint(20) unsigned NOT NULL, PRIMARY KEY (id)) DEFAULT CHARSET=latin1")
		s := kind.must(t, admin).(election.MemberStorage)
		for _, m := range []*election.Member{
			{ID: "日本", Nonce: "n", Renewals: 1},
			{ID: "b", Name: "日本", Nonce: "n", Renewals: 1},
			{ID: "c", Name: string(make([]byte, 20_000)), Nonce: "n", Renewals: 1},
		} {
			require.Error(t, s.UpdateMember(t.Context(), nil, m))
		}
		found, err := s.GetMembers(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
	})
}

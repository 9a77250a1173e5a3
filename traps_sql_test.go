package election_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// The traps that need both an elector and a database, on virtual time.

// After a resignation nobody leads, in every column that says so.
func TestTrap01ResignationClearsTheLeaderRow(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			handle := db.Open(t)
			storage, err := kind.open(handle, "", "")
			require.NoError(t, err)
			p := newParty(t)
			a := p.join("a", storage)
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			require.NoError(t, guardedBy(storage, t.Context(), "a"))
			term, _ := a.Term()
			require.NoError(t, a.ResignLeader(t.Context(), time.Hour))
			require.ErrorIs(t, guardedBy(storage, t.Context(), "a"), election.ErrNotLeader)
			var leader string
			var version uint64
			row := handle.QueryRow(`SELECT leader_id, version FROM election WHERE id = 2`)
			require.NoError(t, row.Scan(&leader, &version))
			require.Empty(t, leader)
			require.Equal(t, term, version)
			var record election.Record
			row = handle.QueryRow(`SELECT leader_id, record FROM election WHERE id = 1`)
			require.NoError(t, row.Scan(&leader, &record))
			require.Empty(t, leader)
			require.Empty(t, record.LeaderID)
		})
	})
}

// guardedBy runs an empty guarded transaction on either kind of storage.
func guardedBy(storage election.Storage, ctx context.Context, id string) error {
	if s, ok := storage.(*election.ORMStorage); ok {
		return s.TxnWithLeaderLock(ctx, id, ormNothing)
	}
	return storage.(*election.SQLStorage).TxnWithLeaderLock(ctx, id, func(*sql.Tx) error { return nil })
}

// The callback's ctx fences by term: a transaction of an earlier reign of the
// same member does not commit in a later one.
func TestTrap02ContextOfAnEarlierReign(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			storage, err := kind.open(db.Open(t), "", "shard 7")
			require.NoError(t, err)
			reigns := make(chan context.Context, 2)
			p := newParty(t)
			a := p.join("a", storage, func(c *election.Config) {
				c.LeaderCallback = func(ctx context.Context) error {
					reigns <- context.WithoutCancel(ctx)
					return stay(ctx)
				}
			})
			commits := func(ctx context.Context) {
				t.Helper()
				require.NoError(t, guardedBy(storage, ctx, "a"))
			}
			first := <-reigns
			commits(first)
			require.NoError(t, a.ResignLeader(t.Context(), 0))
			second := <-reigns
			commits(second)
			commits(t.Context()) // without a reign, the ID alone
			require.ErrorIs(t, guardedBy(storage, first, "a"), election.ErrNotLeader)
			require.ErrorIs(t, guardedBy(storage, second, "b"), election.ErrNotLeader)
		})
	})
}

// The rows are deleted under a running leader.
func TestTrap11RowsDeletedFromTheTable(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			handle := db.Open(t)
			open := func() election.Storage {
				s, err := kind.open(db.Open(t), "", "")
				require.NoError(t, err)
				return s
			}
			p := newParty(t)
			a := p.join("a", open(), stopTakes(300*time.Millisecond, &p.log))
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			p.join("b", open(), func(c *election.Config) { c.RenewInterval = 100 * time.Millisecond })
			<-time.After(5 * time.Second)
			term, _ := a.Term()
			waitFor(t, time.Minute, "the rows are deleted", func() bool {
				_, err := handle.Exec(`DELETE FROM election`)
				return err == nil
			})
			waitFor(t, time.Minute, "a new reign", func() bool { return len(p.log.all()) == 2 })
			require.ErrorIs(t, p.log.all()[0].cause, election.ErrHistoryLost)
			require.Greater(t, p.log.last().term, term)
			p.stopAll()
			p.log.requireSound(t)
		})
	})
}

// older is the election as a member sees it that knows only the first fields:
// what it reads and writes back has lost all others.
type older struct{ election.Storage }

func (o older) Get(ctx context.Context) (*election.Record, error) {
	r, err := o.Storage.Get(ctx)
	if err != nil {
		return nil, err
	}
	var known struct {
		LeaderID string `json:"leader_id"`
		Members  []struct {
			ID            string        `json:"id"`
			Name          string        `json:"name"`
			Address       string        `json:"address"`
			LeaseDuration time.Duration `json:"lease_duration"`
			RenewTime     time.Time     `json:"renew_time"`
		} `json:"members"`
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &known); err != nil {
		return nil, err
	}
	seen := &election.Record{LeaderID: known.LeaderID, Version: r.Version}
	for _, m := range known.Members {
		seen.Members = append(seen.Members, &election.Member{ID: m.ID, Name: m.Name, Address: m.Address,
			LeaseDuration: m.LeaseDuration, RenewTime: m.RenewTime})
	}
	return seen, nil
}

// take does what an older member does in one poll: it renews its entry, and
// leads if nobody does or it already did.
func (o older) take(ctx context.Context, id string) error {
	r, err := o.Get(ctx)
	if err != nil {
		return err
	}
	entry, ok := r.FindMember(id)
	if !ok {
		entry = &election.Member{ID: id, LeaseDuration: election.DefaultLeaseDuration}
		r.Members = append(r.Members, entry)
	}
	entry.RenewTime = time.Now()
	acquired := r.LeaderID == ""
	if acquired {
		r.LeaderID = id
	}
	return o.Update(ctx, r, acquired)
}

// A member that knows only the first fields takes part: it drops everybody's
// nonce, counter and the term with every write, and nobody is deposed or taken
// for a duplicate; it can lead, and the guard counts its reigns too.
func TestTrap13OlderMemberTakesPart(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		storage := open()
		p := newParty(t)
		a := p.join("a", storage)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		p.join("b", open())
		old := older{open()}
		poll := func(times int) {
			for range times {
				waitFor(t, time.Second, "the older member writes", func() bool { return old.take(t.Context(), "old") == nil })
				<-time.After(1700 * time.Millisecond)
			}
		}
		poll(30)
		require.True(t, a.IsLeader())
		require.Len(t, p.log.all(), 1)
		require.Len(t, a.GetMembers(), 3)
		first, _ := a.Term()

		// The older member takes the leadership while nobody has it.
		ended := make(chan error, 1)
		go func() { ended <- a.ResignLeader(t.Context(), time.Minute) }()
		waitFor(t, time.Second, "the older member leads", func() bool {
			r, err := storage.Get(t.Context())
			return err == nil && r.LeaderID == "" && old.take(t.Context(), "old") == nil
		})
		require.NoError(t, <-ended)
		poll(5)
		r, err := storage.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "old", r.LeaderID)
		require.False(t, r.Unguarded)
		require.Greater(t, r.Term, first, "row 2's number stands for the term that its JSON lacks")
		older := r.Term

		// It falls silent: after its lease another member leads, in a higher term.
		waitFor(t, time.Minute, "another leads", func() bool { return len(p.leaders()) == 1 })
		require.Greater(t, p.log.last().term, older)
		p.log.requireSound(t)
	})
}

// A pool of one connection that a long query occupies: the renewal fails with an
// error that says so, the leader stops in time, and nothing hangs.
func TestTrap18PoolOfOneConnection(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			handle := db.OpenSingle(t)
			storage, err := kind.open(handle, "", "")
			require.NoError(t, err)
			failures := make(chan error, 1000)
			p := newParty(t)
			a := p.join("a", storage, func(c *election.Config) {
				c.OnEvent = func(e election.Event) {
					if e.Kind == election.EventStorageError {
						failures <- e.Err
					}
				}
			})
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			busy, err := handle.Conn(t.Context())
			require.NoError(t, err)
			taken := time.Now()
			waitFor(t, time.Minute, "a stops", func() bool { return !a.IsLeader() })
			require.LessOrEqual(t, time.Since(taken), election.DefaultRenewDeadline)
			require.ErrorContains(t, <-failures, "connection pool")
			require.ErrorContains(t, a.Status().Err, "connection pool")
			require.NoError(t, busy.Close())
			waitFor(t, time.Minute, "a leads again", a.IsLeader)
			require.NoError(t, a.Status().Err)
		})
	})
}

// Elections of one table do not meet, whatever they are called.
func TestElectionsInOneTable(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t)
			handle := db.Open(t)
			names := []string{"", "shard", "Shard", "shard ", "schärd", "'; DROP TABLE election; --"}
			electors := make([]*partyMember, 0, len(names))
			for _, name := range names {
				s, err := kind.open(handle, "", name)
				require.NoError(t, err)
				electors = append(electors, p.join("m", s, func(c *election.Config) { c.LeaderCallback = stay }))
			}
			for _, e := range electors {
				waitFor(t, time.Minute, "each leads its election", e.IsLeader)
			}
			require.NoError(t, electors[1].ResignLeader(t.Context(), time.Hour))
			require.Equal(t, len(names)-1, len(p.leaders()))
		})
	})
}

// A guarded transaction that lasts longer than RenewInterval is reported: on an
// engine with one writer it holds up the renewals.
func TestGuardThatIsSlowIsReported(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			storage, err := kind.open(db.Open(t), "", "")
			require.NoError(t, err)
			slow := make(chan election.Event, 10)
			took := make(chan error, 1)
			p := newParty(t)
			p.join("a", storage, func(c *election.Config) {
				c.OnEvent = func(e election.Event) {
					if e.Kind == election.EventGuardSlow {
						slow <- e
					}
				}
				c.LeaderCallback = func(ctx context.Context) error {
					took <- guardedFor(storage, ctx, "a", election.DefaultRenewInterval+time.Second)
					return stay(ctx)
				}
			})
			require.NoError(t, <-took)
			e := <-slow
			require.Greater(t, e.Duration, election.DefaultRenewInterval)
			require.NotZero(t, e.Term)
		})
	})
}

// guardedFor holds a guarded transaction open for d of virtual time.
func guardedFor(storage election.Storage, ctx context.Context, id string, d time.Duration) error {
	if s, ok := storage.(*election.ORMStorage); ok {
		return s.TxnWithLeaderLock(ctx, id, func(*gorm.DB) error {
			<-time.After(d) // virtual time
			return nil
		})
	}
	return storage.(*election.SQLStorage).TxnWithLeaderLock(ctx, id, func(*sql.Tx) error {
		<-time.After(d) // virtual time
		return nil
	})
}

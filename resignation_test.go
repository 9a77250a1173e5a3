package election_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/storagetest"
)

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

package election_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// renewAsCopy does what a copy of the process of id does when it renews first: its entry has
// the same nonce, and a counter that the process itself did not write.
func renewAsCopy(t *testing.T, s election.Storage, id string) {
	t.Helper()
	for {
		r, err := s.Get(t.Context())
		require.NoError(t, err)
		if m, ok := r.FindMember(id); ok {
			m.Renewals, m.RenewTime = m.Renewals+7, m.RenewTime.Add(time.Second)
			err = s.Update(t.Context(), r, false)
		} else {
			rows, getErr := s.(election.MemberStorage).GetMembers(t.Context(), id)
			require.NoError(t, getErr)
			require.Len(t, rows, 1)
			after := rows[0].Clone()
			after.Renewals, after.RenewTime = after.Renewals+7, after.RenewTime.Add(time.Second)
			err = s.(election.MemberStorage).UpdateMember(t.Context(), rows[0], after)
		}
		if !errors.Is(err, election.ErrRecordConflict) {
			require.NoError(t, err)
			return
		}
	}
}

// A snapshot of the leader's machine was resumed beside it, and has renewed first. The leader
// ends its callback at its next look, stops, and leaves the leadership to its copy.
func TestTrap12CopyOfALeader(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p, s := newParty(t), open()
		a := p.join("a", open())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		renewAsCopy(t, s, "a")
		started := time.Now()
		<-a.done
		require.ErrorIs(t, a.err, election.ErrDuplicateMember)
		require.LessOrEqual(t, time.Since(started), election.DefaultRenewInterval+time.Second)
		require.ErrorIs(t, p.log.last().cause, election.ErrDuplicateMember)
		r, err := s.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "a", r.LeaderID, "the copy leads")
		require.Len(t, r.Members, 1)
	})
}

// A follower whose copy has renewed first starts anew. It stops if the copy lives, and goes
// on after a lease if that was the last of it, as when a snapshot replaces its original.
func TestTrap12CopyOfAFollower(t *testing.T) {
	for _, lives := range []bool{true, false} {
		onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
			p, s := newParty(t), open()
			a := p.join("a", open())
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			b := p.join("b", open())
			waitFor(t, time.Minute, "b has joined", func() bool { return len(a.GetMembers()) == 2 })
			renewAsCopy(t, s, "b")
			if lives {
				for range 20 {
					<-time.After(election.DefaultRenewInterval) // virtual time
					if b.ended() {
						break
					}
					renewAsCopy(t, s, "b")
				}
				<-b.done
				require.ErrorIs(t, b.err, election.ErrDuplicateMember)
				return
			}
			<-time.After(2 * election.DefaultLeaseDuration) // virtual time
			require.False(t, b.ended())
			require.NoError(t, a.ResignLeader(t.Context(), time.Hour))
			waitFor(t, time.Minute, "b leads", b.IsLeader)
			p.log.requireSound(t)
		})
	}
}

// What the callback of a leader left behind may not write any more once it is known that a
// copy goes on in the same term: for the database both are the recorded leader.
func TestTrap12CopyEndsGuardedTransactions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle := db.Open(t)
		s := openSQL(t, handle)
		dbtest.Exec(t, handle, "CREATE TABLE ledger (entry INT)")
		started := make(chan context.Context, 1)
		e, err := election.NewElector(election.Config{
			ID: "a", Storage: unwatched(s), LeaseDuration: 20 * time.Second, RenewInterval: 200 * time.Millisecond,
			LeaderCallback: func(ctx context.Context) error {
				started <- context.WithoutCancel(ctx)
				return stay(ctx)
			},
		})
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- e.RunElection(t.Context()) }()
		ctx := <-started
		write := func() error {
			return s.TxnWithLeaderLock(ctx, "a", func(tx *sql.Tx) error {
				_, err := tx.Exec("INSERT INTO ledger VALUES (1)")
				return err
			})
		}
		require.NoError(t, write())
		renewAsCopy(t, openSQL(t, db.Open(t)), "a")
		require.ErrorIs(t, <-done, election.ErrDuplicateMember)
		require.ErrorIs(t, write(), election.ErrNotLeader)
		// By a handle of its own: mattn/go-sqlite3 may interrupt the statement after the one whose ctx has ended.
		require.Equal(t, 1, dbtest.Count(t, db.Open(t), "ledger"))
	})
}

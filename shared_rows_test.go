package election

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/batch"
	"github.com/sqlelect/election/internal/dbtest"
)

// What is renewed together is one statement, which a client that stops cannot leave
// open; and it is reported as renewed only when it is stored, also where a reader is in the
// way of the commit.
func TestRenewalsTogetherAreOneStatement(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		s, err := NewSQLStorage(handle, "")
		require.NoError(t, err)
		if s.rows.shared.renewals == nil {
			t.Skip("the engine has no such statement")
		}
		shard := s.Election("shard")
		require.NoError(t, shard.Update(t.Context(), &Record{LeaderID: "a", Term: 1}, true))
		statements.Take()
		renew := func(version int64) bool {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			renewed, err := s.rows.renew(ctx, []renewal{{"shard", recordSlot, version, version + 1, "a", "{}"}})
			return err == nil && renewed[0]
		}
		require.True(t, renew(1))
		require.Len(t, statements.Take(), 1)
		reader := dbtest.Begin(t, db.Open(t), "SELECT COUNT(*) FROM election")
		renewed := renew(2)
		reader.Commit()
		r, err := shard.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, renewed, r.Version == 3)
	})
}

// Many elections of one table renew together, and each hears of its own: a renewal
// that took place, a conflict, and where somebody has locked a row, that row's own
// wait, which holds up nobody else.
func TestRenewalsTogether(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		s, err := NewSQLStorage(handle, "")
		require.NoError(t, err)
		const n = 40
		records, own := make([]*Record, n), make([]*Member, n)
		storages := make([]*SQLStorage, n)
		for i := range n {
			storages[i] = s.Election(fmt.Sprintf("shard '%02d", i))
			if i == 0 {
				storages[i] = s
			}
			own[i] = &Member{ID: "f", Nonce: "n", Renewals: 1}
			records[i] = &Record{LeaderID: "a", Term: 1}
			require.NoError(t, storages[i].UpdateWithMember(t.Context(), records[i], true, nil, own[i]))
			records[i].Version = 1
		}
		const stale, locked = 7, 11
		records[stale].Version = 5
		lock := "UPDATE election SET version = version WHERE election = 'shard ''11'"
		if db.Engine == "sqlite" { // which locks all or nothing
			lock = "SELECT 1"
		}
		txn := dbtest.Begin(t, db.Open(t), lock)
		statements.Take()
		ctx := batch.WithWait(t.Context(), time.Second)
		_, _, err = s.rows.shared.renewals.Do(ctx, renewal{}) // company
		require.NoError(t, err)
		errs := make([]error, 2*n)
		var renewing, freed sync.WaitGroup
		for i := range n {
			running := &renewing
			if i == locked {
				running = &freed
			}
			running.Go(func() { errs[i] = storages[i].Update(ctx, records[i], false) })
			running.Go(func() {
				after := *own[i]
				after.Renewals++
				errs[n+i] = storages[i].UpdateMember(ctx, own[i], &after)
			})
		}
		renewing.Wait()
		sent := statements.Take()
		txn.Commit()
		freed.Wait()
		for i, err := range errs {
			if i == stale {
				require.ErrorIs(t, err, ErrRecordConflict)
				continue
			}
			require.NoError(t, err, "%d", i)
		}
		if db.Engine != "mysql" {
			assert.Less(t, len(sent), n/2)
		}
		ctx = batch.WithWait(t.Context(), 10*time.Millisecond)
		var reading sync.WaitGroup
		for i := range n {
			reading.Go(func() {
				for range 2 {
					r, err := storages[i].Get(ctx)
					assert.NoError(t, err)
					version := int64(2)
					if i == stale {
						version = 1
					}
					assert.Equal(t, version, r.Version)
					assert.Equal(t, "a", r.LeaderID)
					members, err := storages[i].GetMembers(ctx)
					assert.NoError(t, err)
					assert.Len(t, members, 1)
					assert.Equal(t, uint64(2), members[0].Renewals)
				}
			})
		}
		reading.Wait()
		assert.Less(t, len(statements.Take()), 2*n, "of %d reads", 4*n)
	})
}

// Members of one election in one process that look at all others at the same time
// share what they see. What a user of the storage gets is the user's own.
func TestMembersShareOnePicture(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		s, err := NewSQLStorage(db.Open(t), "")
		require.NoError(t, err)
		for _, e := range []*SQLStorage{s, s.Election("shard")} {
			for _, id := range []string{"b", "a"} {
				require.NoError(t, e.UpdateMember(t.Context(), nil, &Member{ID: id, Nonce: "n", Renewals: 1, Labels: map[string]string{"k": "v"}}))
			}
			all, err := s.rows.readAllMembers(t.Context(), []string{e.rows.election, "none", e.rows.election})
			require.NoError(t, err)
			require.Empty(t, all[1].members)
			require.Len(t, all[0].members, 2)
			require.Equal(t, "a", all[0].members[0].ID)
			require.Same(t, all[0].members[0], all[2].members[0])
			require.Equal(t, rosterOf(all[0].members), all[0].roster)

			ctx := batch.WithWait(t.Context(), 50*time.Millisecond)
			found := make([][]*Member, 3)
			var asking sync.WaitGroup
			for i := range found {
				asking.Go(func() {
					members, err := e.GetMembers(ctx)
					assert.NoError(t, err)
					members[0].Labels["k"], members[1] = fmt.Sprint(i), nil
					found[i] = members
				})
			}
			asking.Wait()
			for i, members := range found {
				require.Equal(t, fmt.Sprint(i), members[0].Labels["k"])
			}
		}
	})
}

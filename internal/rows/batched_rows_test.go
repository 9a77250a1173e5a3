package rows

import (
	"context"
	"database/sql"
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
		table := mustOpen(t, handle)
		if table.shared.renewals == nil {
			t.Skip("the engine has no such statement")
		}
		shard := table.Election("shard")
		require.NoError(t, shard.Update(t.Context(), Change{LeaderID: "a", Text: "{}", Term: 1, LeaderChanged: true}))
		statements.Take()
		renew := func(version int64) bool {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			renewed, err := table.renew(ctx, []renewal{{"shard", recordSlot, version, version + 1, "a", "{}"}})
			return err == nil && renewed[0]
		}
		require.True(t, renew(1))
		require.Len(t, statements.Take(), 1)
		reader := dbtest.Begin(t, db.Open(t), "SELECT COUNT(*) FROM election")
		renewed := renew(2)
		reader.Commit()
		found, err := shard.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, renewed, found.Record.Version == 3)
	})
}

// Many elections of one table renew together, and each hears of its own: a renewal
// that took place, a conflict, and where somebody has locked a row, that row's own
// wait, which holds up nobody else.
func TestRenewalsTogether(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		table := mustOpen(t, handle)
		const n = 40
		changes, all := make([]Change, n), make([]Election, n)
		first, second := int64(1), int64(2)
		for i := range n {
			all[i] = table.Election(fmt.Sprintf("shard '%02d", i))
			if i == 0 {
				all[i] = table.Election("")
			}
			changes[i] = Change{LeaderID: "a", Text: `{"leader_id":"a"}`, Term: 1, LeaderChanged: true, Member: MemberChange{ID: "f", To: &first, Text: "1"}}
			require.NoError(t, all[i].Update(t.Context(), changes[i]))
			changes[i].Version, changes[i].LeaderChanged, changes[i].Member = 1, false, MemberChange{}
		}
		const stale, locked = 7, 11
		changes[stale].Version = 5
		lock := "UPDATE election SET version = version WHERE election = 'shard ''11'"
		if db.Engine == "sqlite" { // which locks all or nothing
			lock = "SELECT 1"
		}
		txn := dbtest.Begin(t, db.Open(t), lock)
		statements.Take()
		ctx := batch.WithWait(t.Context(), time.Second)
		_, _, err := table.shared.renewals.Do(ctx, renewal{}) // company
		require.NoError(t, err)
		errs := make([]error, 2*n)
		var renewing, freed sync.WaitGroup
		for i := range n {
			running := &renewing
			if i == locked {
				running = &freed
			}
			running.Go(func() { errs[i] = all[i].Update(ctx, changes[i]) })
			running.Go(func() {
				errs[n+i] = all[i].UpdateMember(ctx, MemberChange{ID: "f", From: &first, To: &second, Text: "2"})
			})
		}
		renewing.Wait()
		sent := statements.Take()
		txn.Commit()
		freed.Wait()
		for i, err := range errs {
			if i == stale {
				require.ErrorIs(t, err, ErrConflict)
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
					found, err := all[i].Get(ctx)
					assert.NoError(t, err)
					version := int64(2)
					if i == stale {
						version = 1
					}
					assert.Equal(t, version, found.Record.Version)
					assert.Equal(t, "a", found.Record.LeaderID)
					members, err := all[i].AllMembers(ctx)
					assert.NoError(t, err)
					assert.Equal(t, []Entry{{"f", "2"}}, members)
				}
			})
		}
		reading.Wait()
		assert.Less(t, len(statements.Take()), 2*n, "of %d reads", 4*n)
	})
}

// Those who look at all members of one election at the same time share what they see.
func TestMembersShareOnePicture(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		table := mustOpen(t, db.Open(t))
		table.picture = func(entries []Entry) any { return &entries }
		for _, e := range []Election{table.Election(""), table.Election("shard")} {
			one := int64(1)
			for _, id := range []string{"b", "a"} {
				require.NoError(t, e.UpdateMember(t.Context(), MemberChange{ID: id, To: &one, Text: "of " + id}))
			}
			all, err := e.readAllMembers(t.Context(), []string{e.election, "none", e.election})
			require.NoError(t, err)
			require.Empty(t, *all[1].(*[]Entry))
			require.ElementsMatch(t, []Entry{{"a", "of a"}, {"b", "of b"}}, *all[0].(*[]Entry))
			require.Same(t, all[0], all[2])
		}
	})
}

func mustOpen(t *testing.T, db *sql.DB) *Table {
	t.Helper()
	table, err := Open(db, Options{Name: "election", Picture: func(entries []Entry) any { return entries }})
	require.NoError(t, err)
	return table
}

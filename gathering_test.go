package election

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// echo is a gathering that answers each question with itself, and keeps the batches.
type echo struct {
	gathering[string, string]
	batches [][]string
	took    time.Duration
	err     error
}

func newEcho() *echo {
	e := &echo{}
	e.all = func(_ context.Context, questions []string) ([]string, error) {
		e.batches = append(e.batches, questions)
		<-time.After(e.took) // virtual time
		return questions, e.err
	}
	return e
}

func TestGathering(t *testing.T) {
	const patience = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		e := newEcho()
		ctx := withPatience(t.Context(), patience)
		_, shared, err := e.ask(t.Context(), "in a hurry")
		require.NoError(t, err)
		require.False(t, shared)
		_, shared, err = e.ask(ctx, "nobody is there")
		require.NoError(t, err)
		require.False(t, shared)

		var asking sync.WaitGroup
		want := func(q string, at time.Duration) {
			asking.Go(func() {
				<-time.After(at)
				began := time.Now()
				answer, shared, err := e.ask(ctx, q)
				assert.NoError(t, err)
				assert.True(t, shared, q)
				assert.Equal(t, q, answer)
				assert.LessOrEqual(t, time.Since(began), patience)
			})
		}
		want("a", 50*time.Millisecond)
		want("b", 60*time.Millisecond)
		want("c", 149*time.Millisecond)
		want("late", 200*time.Millisecond)
		asking.Wait()
		require.Equal(t, [][]string{{"a", "b", "c"}, {"late"}}, e.batches)

		<-time.After(2 * patience)
		_, shared, _ = e.ask(ctx, "company has gone")
		require.False(t, shared)

		e.batches = nil
		for i := range batchSize + 1 {
			want(fmt.Sprint(i), patience/2)
		}
		asking.Wait()
		require.Len(t, e.batches, 2)
		require.Len(t, e.batches[0], batchSize, "a full batch does not wait")
	})
}

// Whoever began a batch may give up: the others are answered. What fails, fails for all.
func TestGatheringOutlivesItsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho()
		e.took = time.Second
		ctx := withPatience(t.Context(), 10*time.Millisecond)
		first, giveUp := context.WithTimeout(ctx, time.Minute)
		_, _, _ = e.ask(ctx, "company")
		var asking sync.WaitGroup
		asking.Go(func() {
			_, shared, err := e.ask(first, "first")
			assert.True(t, shared)
			assert.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		asking.Go(func() {
			answer, shared, err := e.ask(ctx, "second")
			assert.NoError(t, err)
			assert.True(t, shared)
			assert.Equal(t, "second", answer)
		})
		synctest.Wait()
		giveUp()
		asking.Wait()
		require.Equal(t, [][]string{{"first", "second"}}, e.batches)

		e.err = errors.New("out of order")
		for range 2 {
			asking.Go(func() {
				_, shared, err := e.ask(ctx, "x")
				assert.True(t, !shared || errors.Is(err, e.err))
			})
		}
		asking.Wait()
	})
}

// Nobody waits for longer than its own patience, or a quarter of its time; and a batch
// has as much time as the one in it that has most.
func TestGatheringOfUnequals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho()
		patient := withPatience(t.Context(), 500*time.Millisecond)
		_, _, _ = e.ask(patient, "company")
		var asking sync.WaitGroup
		asking.Go(func() { _, _, _ = e.ask(patient, "patient") })
		synctest.Wait()
		_, shared, err := e.ask(withPatience(t.Context(), 5*time.Millisecond), "impatient")
		require.NoError(t, err)
		require.False(t, shared, "the batch is sent too late for it")
		asking.Wait()

		e = newEcho()
		short, cancel := context.WithTimeout(withPatience(t.Context(), time.Second), 100*time.Millisecond)
		defer cancel()
		_, _, _ = e.ask(short, "company")
		began := time.Now()
		_, shared, err = e.ask(short, "short")
		require.NoError(t, err)
		require.True(t, shared)
		require.LessOrEqual(t, time.Since(began), 25*time.Millisecond)

		e = newEcho()
		inTime := make(chan bool, 1)
		e.all = func(ctx context.Context, questions []string) ([]string, error) {
			deadline, _ := ctx.Deadline()
			inTime <- time.Until(deadline) > time.Second
			return questions, nil
		}
		short, cancel = context.WithTimeout(withPatience(t.Context(), 20*time.Millisecond), 100*time.Millisecond)
		defer cancel()
		long, cancel := context.WithTimeout(withPatience(t.Context(), 20*time.Millisecond), 2*time.Second)
		defer cancel()
		_, _, _ = e.ask(long, "company")
		asking.Go(func() { _, _, _ = e.ask(short, "short") })
		synctest.Wait()
		_, shared, err = e.ask(long, "long")
		require.NoError(t, err)
		require.True(t, shared)
		require.True(t, <-inTime)
		asking.Wait()
	})
}

// What is renewed together is one statement, which a client that stops cannot leave
// open; and it is reported as renewed only when it is stored, also where a reader is in the
// way of the commit.
func TestRenewalsTogetherAreOneStatement(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		s, err := NewSQLStorage(handle, "")
		require.NoError(t, err)
		if s.rows.shared.renewals.all == nil {
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
		ctx := withPatience(t.Context(), time.Second)
		_, _, err = s.rows.shared.renewals.ask(ctx, renewal{}) // company
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
		ctx = withPatience(t.Context(), 10*time.Millisecond)
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
			all, err := s.rows.shared.members.all(t.Context(), []string{e.rows.election, "none", e.rows.election})
			require.NoError(t, err)
			require.Empty(t, all[1].members)
			require.Len(t, all[0].members, 2)
			require.Equal(t, "a", all[0].members[0].ID)
			require.Same(t, all[0].members[0], all[2].members[0])
			require.Equal(t, rosterOf(all[0].members), all[0].roster)

			ctx := withPatience(t.Context(), 50*time.Millisecond)
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

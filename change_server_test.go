package election_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// A change of leader is one round trip while nobody is in its way; its conflict changes
// nothing; and where a row is missing that it counts on, it is made all the same.
func TestChangeInOneRoundTrip(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if engine(t, db.Open(t)) == "MySQL" {
			t.Skip("it has no statement that holds others")
		}
		fresh := db.Fresh(t)
		handle, line := openWire(t, fresh)
		other := fresh.Open(t)
		s, watching := kind.must(t, handle).(election.MemberStorage), kind.must(t, other)
		entry := &election.Member{ID: "ä'\\\"?%", Nonce: "n", Name: "%?ü", LeaseDuration: time.Second}
		change := func(r *election.Record, leaderID string) (err error) {
			after := *entry
			after.Renewals++
			r.LeaderID, r.Members = leaderID, []*election.Member{&after}
			if leaderID != "" {
				r.Term++
			}
			if err = s.UpdateWithMember(t.Context(), r, true, entry, &after); err == nil {
				entry = &after
			}
			return err
		}
		require.NoError(t, s.UpdateMember(t.Context(), nil, entry))
		mustLead(t, s, "b")
		get := func() *election.Record {
			r, err := s.Get(t.Context())
			require.NoError(t, err)
			return r
		}
		for _, leaderID := range []string{"", entry.ID, "", entry.ID} {
			r := get()
			require.Equal(t, 1, line.trips(func() { require.NoError(t, change(r, leaderID)) }))
			read, err := watching.Get(t.Context())
			require.NoError(t, err)
			require.Equal(t, leaderID, read.LeaderID)
			require.False(t, read.Unguarded)
			require.Equal(t, entry.Name, read.Members[0].Name)
		}

		before := get()
		outdated := before.Clone()
		outdated.Version--
		require.ErrorIs(t, change(outdated, ""), election.ErrRecordConflict)
		own := entry
		entry = &election.Member{ID: own.ID, Nonce: "another"}
		require.ErrorIs(t, change(before.Clone(), ""), election.ErrRecordConflict)
		entry = own
		require.Equal(t, before, get())
		require.NoError(t, guarded(inTerm(t.Context(), entry.ID, before.Term), s, entry.ID, func(*sql.Tx) error { return nil }))

		dbtest.Exec(t, other, "DELETE FROM election WHERE id = 2")
		require.NoError(t, change(get(), entry.ID))
		require.False(t, get().Unguarded)
	})
}

// A change of leader that gave up while a guarded transaction was in its way does not
// come to pass after that one.
func TestChangeThatGaveUp(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db.Fresh(t), kind)
		require.NoError(t, guarded(t.Context(), w.a, "a", func(*sql.Tx) error {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := lead(ctx, w.b, "b")
			require.Error(t, err)
			return nil
		}))
		require.NoError(t, guarded(t.Context(), w.a, "a", func(*sql.Tx) error { return nil }))
		mustLead(t, w.b, "c") // behind whatever is left of it
		r, err := w.a.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, uint64(2), r.Term)
	})
}

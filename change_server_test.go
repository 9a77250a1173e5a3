package election_test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// eachWire runs a test on an empty database of each server that can make a change of leader as a whole,
// through a handle whose round trips are counted.
func eachWire(t *testing.T, run func(t *testing.T, fresh *dbtest.Database, kind storageKind, handle *sql.DB, line *wire)) {
	t.Helper()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if engine(t, db.Open(t)) == "MySQL" {
			t.Skip("MySQL has no compound statement")
		}
		fresh := db.Fresh(t)
		handle, line := openWire(t, fresh)
		run(t, fresh, kind, handle, line)
	})
}

// A change of leader is one round trip while nobody is in its way; its conflict changes
// nothing; and where a row is missing that it counts on, it is made all the same.
func TestChangeInOneRoundTrip(t *testing.T) {
	t.Parallel()
	eachWire(t, func(t *testing.T, fresh *dbtest.Database, kind storageKind, handle *sql.DB, line *wire) {
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

// The first change of leader, which makes the rows, and the entry of a member that nobody
// has seen before, is one, too: on a slow link nobody would ever be elected otherwise. A
// connection of PostgreSQL's also prepares it, in one round trip more.
func TestFirstChangeInOneRoundTrip(t *testing.T) {
	t.Parallel()
	eachWire(t, func(t *testing.T, fresh *dbtest.Database, kind storageKind, handle *sql.DB, line *wire) {
		s := kind.must(t, handle).(election.MemberStorage)
		other := kind.must(t, fresh.Open(t)).(election.MemberStorage)
		change := func(s election.MemberStorage, r *election.Record, id string) error {
			r = r.Clone()
			entry := &election.Member{ID: id, Nonce: "n", Renewals: 1, LeaseDuration: time.Second}
			r.LeaderID, r.Term, r.Members = id, r.Term+1, []*election.Member{entry}
			return s.UpdateWithMember(t.Context(), r, true, nil, entry)
		}
		require.NoError(t, s.UpdateMember(t.Context(), nil, &election.Member{ID: "first", Nonce: "n"})) // which asks for its rights once
		empty, err := s.Get(t.Context())
		require.NoError(t, err)

		trips := map[string]int{"mysql": 1, "postgres": 2}[fresh.Engine]
		require.LessOrEqual(t, line.trips(func() { require.NoError(t, change(s, empty, "a")) }), trips)
		led, err := s.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "a", led.LeaderID)
		require.False(t, led.Unguarded)
		require.NoError(t, guarded(inTerm(t.Context(), "a", led.Term), s, "a", func(*sql.Tx) error { return nil }))

		require.ErrorIs(t, change(other, empty, "b"), election.ErrRecordConflict, "it was created meanwhile")
		require.ErrorIs(t, change(other, led, "first"), election.ErrRecordConflict, "its entry exists")
		same, err := other.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, led, same)
		members, err := other.GetMembers(t.Context())
		require.NoError(t, err)
		require.Len(t, members, 2)
		require.LessOrEqual(t, line.trips(func() { require.NoError(t, change(s, led, "c")) }), trips, "some of it is prepared already")
	})
}

// A change of leader that gave up while a guarded transaction was in its way does not
// come to pass after that one.
func TestChangeThatGaveUp(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db.Fresh(t), kind)
		require.NoError(t, guarded(t.Context(), w.a, "a", func(*sql.Tx) error {
			w.requireHeldUp(t, "b")
			return nil
		}))
		require.NoError(t, guarded(t.Context(), w.a, "a", func(*sql.Tx) error { return nil }))
		mustLead(t, w.b, "c") // behind whatever is left of it
		r, err := w.a.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, uint64(2), r.Term)
	})
}

// Sessions in which a change of leader cannot be sent as a whole, or not so simply, change
// leaders all the same, and what they write is what was meant.
func TestChangeInOddSessions(t *testing.T) {
	t.Parallel()
	none := map[string]string{}
	for name, settings := range map[string][2]map[string]string{
		"client in latin1": {{"charset": "latin1"}, none},
		"sql_mode ORACLE":  {{"sql_mode": "'ORACLE'"}, none},
		"sql_mode ANSI":    {{"sql_mode": "'ANSI,NO_BACKSLASH_ESCAPES'"}, none},
		"serializable":     {{"tx_isolation": "'SERIALIZABLE'"}, {"default_transaction_isolation": "serializable"}},
		"simple protocol":  {none, {"default_query_exec_mode": "simple_protocol"}},
		"described only":   {none, {"default_query_exec_mode": "cache_describe"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
				if engine(t, db.Open(t)) == "MySQL" {
					t.Skip("no change is sent as a whole")
				}
				fresh := db.Fresh(t)
				odd := withSettings(t, fresh, settings[0], settings[1])
				s, other := openSQL(t, odd.Open(t)), openSQL(t, fresh.Open(t))
				long := strings.Repeat("ä漢😀", 60000)
				for _, text := range []string{"a", "ä漢😀\\'\"%?", long, ""} {
					r, err := s.Get(t.Context())
					require.NoError(t, err)
					m := &election.Member{ID: "ä漢", Name: text, Nonce: "n", LeaseDuration: time.Second}
					r.LeaderID, r.Members = m.ID, []*election.Member{m}
					r.Term++
					require.NoError(t, s.Update(t.Context(), r, true))
					reader := other
					if name == "client in latin1" {
						reader = s // as the others are told something else, whatever we do
					}
					read, err := reader.Get(t.Context())
					require.NoError(t, err)
					require.Equal(t, m, read.Members[0])
					require.ErrorIs(t, s.Update(t.Context(), &election.Record{LeaderID: "x", Version: 1 << 40}, true), election.ErrRecordConflict)
				}
			})
		})
	}
}

// What a program has hung on the table of the elections is neither taken for a conflict,
// nor in the way.
func TestChangeOfATableWithTriggers(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "postgres" {
			t.Skip("it has no rules, and nothing that waits for COMMIT")
		}
		fresh := db.Fresh(t)
		handle := fresh.Open(t)
		s := openSQL(t, handle)
		mustLead(t, s, "a")
		dbtest.Exec(t, handle, "CREATE RULE told AS ON UPDATE TO election DO ALSO NOTIFY told")
		mustLead(t, s, "b")
		dbtest.Exec(t, handle, "DROP RULE told ON election")
		dbtest.Exec(t, handle, "CREATE FUNCTION divide() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 / 0; RETURN NULL; END'")
		dbtest.Exec(t, handle, "CREATE CONSTRAINT TRIGGER divides AFTER UPDATE ON election DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION divide()")
		_, err := lead(t.Context(), s, "c")
		require.ErrorContains(t, err, "22012")
		require.NotErrorIs(t, err, election.ErrRecordConflict)
		r, err := s.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "b", r.LeaderID)
	})
}

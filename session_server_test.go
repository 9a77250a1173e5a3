package election_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// What a program's own connections look like after the library has used them.

// libraryCall is a call of the library on the one connection of a pool.
type libraryCall struct {
	name string
	run  func() error
	// Closes: the session may have ended, as it could not be restored.
	closes bool
}

// guardedCalls are all ways in which a guarded transaction ends.
func guardedCalls(t *testing.T, w guardWorld) []libraryCall {
	run := func(ctx context.Context, id string, fn func(*sql.Tx) error) func() error {
		return func() error { return guarded(ctx, w.a, id, fn) }
	}
	exec := func(statement string) func(*sql.Tx) error {
		return func(tx *sql.Tx) error { _, err := tx.Exec(statement); return err }
	}
	boom := errors.New("boom")
	canceled, cancel := context.WithCancel(t.Context())
	return []libraryCall{
		{"guarded", run(t.Context(), "a", func(*sql.Tx) error { return nil }), false},
		{"guarded: written", run(t.Context(), "a", exec("INSERT INTO log (entry) VALUES ('kept')")), false},
		{"guarded: error", run(t.Context(), "a", func(*sql.Tx) error { return boom }), false},
		{"guarded: error of a statement", run(t.Context(), "a", exec("nonsense")), false},
		{"guarded: error swallowed", run(t.Context(), "a", func(tx *sql.Tx) error { _ = exec("nonsense")(tx); return nil }), true},
		{"guarded: panic", func() error {
			assert.Panics(t, func() { _ = run(t.Context(), "a", func(*sql.Tx) error { panic(boom) })() })
			return nil
		}, false},
		{"guarded: not the leader", run(t.Context(), "b", func(*sql.Tx) error { return boom }), false},
		{"guarded: another term", run(inTerm(t.Context(), "a", w.term+1<<40), "a", func(*sql.Tx) error { return boom }), false},
		{"guarded: ctx ends", run(canceled, "a", func(*sql.Tx) error { cancel(); return nil }), true},
		{"guarded: COMMIT", run(t.Context(), "a", exec("COMMIT")), true},
		{"guarded: ROLLBACK", run(t.Context(), "a", exec("ROLLBACK")), true},
		{"guarded: Rollback", run(t.Context(), "a", (*sql.Tx).Rollback), true},
	}
}

// storageCalls are the calls of a storage, with and without what may come in between.
func storageCalls(t *testing.T, w guardWorld, kind storageKind) []libraryCall {
	s, ctx := w.a.(election.MemberStorage), t.Context()
	me := &election.Member{ID: "é'\\", Nonce: "n"}
	again := me.Clone()
	again.Renewals++
	renew := func() error {
		r, err := w.a.Get(ctx)
		require.NoError(t, err)
		return w.a.Update(ctx, r, false)
	}
	withMember := func(before, after *election.Member) func() error {
		return func() error {
			r, err := w.b.Get(ctx)
			require.NoError(t, err)
			r.Term++
			return s.UpdateWithMember(ctx, r, true, before, after)
		}
	}
	return []libraryCall{
		{"open", func() error { _, err := kind.open(w.db, "", ""); return err }, false},
		{"open: a new table", func() error { _, err := kind.open(w.db, "another", "name"); return err }, false},
		{"Get", func() error { _, err := w.a.Get(ctx); return err }, false},
		{"Update: renewal", renew, false},
		{"Update: change", func() error { _, err := lead(ctx, w.a, "a"); return err }, false},
		{"Update: lost", func() error {
			_ = w.a.Update(ctx, &election.Record{LeaderID: "x", Version: 1 << 40}, false)
			return nil
		}, false},
		{"Update: lost change", func() error { _ = w.a.Update(ctx, &election.Record{LeaderID: "x", Version: 1 << 40}, true); return nil }, false},
		{"Update: short of time", func() error { _ = shortOfTime(t, w); return nil }, true},
		{"Update: first of an election", func() error {
			named, err := kind.open(w.db, "", "named")
			require.NoError(t, err)
			_, err = lead(ctx, named, `a\`)
			return err
		}, false},
		{"UpdateMember: new", func() error { return s.UpdateMember(ctx, nil, me) }, false},
		{"UpdateMember: taken", func() error { _ = s.UpdateMember(ctx, nil, me); return nil }, false},
		{"UpdateMember", func() error { return s.UpdateMember(ctx, me, again) }, false},
		{"GetMembers", func() error { _, err := s.GetMembers(ctx); return err }, false},
		{"UpdateWithMember", withMember(again, me), false},
		{"UpdateWithMember: removal", withMember(me, nil), false},
		{"UpdateWithMember: new", withMember(nil, me), false},
		{"UpdateMember: removal", func() error { return s.UpdateMember(ctx, me, nil) }, false},
		{"Update: renewal again", renew, false},
	}
}

// After each call of the library the one connection of a pool has every setting, and the
// driver every belief, as before: in every mode of the drivers, with all settings turned
// away from their defaults.
func TestTrap28EverySettingAfterEveryCall(t *testing.T) {
	t.Parallel()
	for _, kind := range storageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			dbtest.EachDriverMode(t, func(t *testing.T, db *dbtest.Database) {
				w := newGuardWorld(t, db, kind)
				s := dbtest.Session{Engine: db.Engine, Conn: w.db}
				s.Turn(t)
				id, before := s.ID(t), s.State(t)
				for _, call := range append(storageCalls(t, w, kind), guardedCalls(t, w)...) {
					err := call.run()
					require.True(t, err == nil || strings.HasPrefix(call.name, "guarded"), "%s: %v", call.name, err) // what those return is others' matter
					dbtest.RequireIdle(t, w.db)
					after := s.State(t)
					if s.ID(t) != id {
						require.True(t, call.closes, "the connection was closed: %s", call.name)
						s.Turn(t)
						id, before = s.ID(t), s.State(t)
						continue
					}
					require.Empty(t, dbtest.Changed(before, after), call.name)
				}
				if db.Engine == "sqlite" { // no hook refuses what the program commits
					dbtest.Exec(t, w.db, "DELETE FROM log")
				}
			})
		})
	}
}

// A guard whose first statement never reached the server, as its ctx ended just then, restores
// nothing that it has not changed.
func TestTrap28GuardThatWasNotSent(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, log := db.OpenCounted(t)
		handle.SetMaxOpenConns(1)
		storage := openSQL(t, handle)
		mustLead(t, storage, "a")
		require.NoError(t, guarded(t.Context(), storage, "a", func(*sql.Tx) error { return nil })) // which may leave something behind
		s := dbtest.Session{Engine: db.Engine, Conn: handle}
		id, before := s.ID(t), s.State(t)
		begun, refused := false, false
		log.Refuse(func(text string) error {
			if begun && !refused {
				refused = true
				return context.Canceled
			}
			begun = begun || text == "BEGIN"
			return nil
		})
		require.ErrorIs(t, guarded(t.Context(), storage, "a", func(*sql.Tx) error { return nil }), context.Canceled)
		require.True(t, refused)
		dbtest.RequireIdle(t, handle)
		if after := s.State(t); s.ID(t) == id {
			require.Empty(t, dbtest.Changed(before, after))
		}
	})
}

// A pool of several has no connection that watching, or the locks of reigns, have left
// otherwise than a new one is.
func TestTrap28EverySessionOfAPool(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		if db.Direct != nil {
			t.Skip("no session of its own")
		}
		handle, unchanged := db.OpenFresh(t)
		s := openSQL(t, handle)
		mustLead(t, s, "a")
		ctx, cancel := context.WithCancel(t.Context())
		told, ended := make(chan struct{}, 100), make(chan error, 1)
		go func() { ended <- s.Watch(ctx, func() { told <- struct{}{} }) }()
		for range 3 {
			<-told
			mustLead(t, s, "a")
		}
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		unchanged()
	})
}

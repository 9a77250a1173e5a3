package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// pairWorld is an election on a primary and its standby. Whoever leads fills a ledger by
// guarded transactions; a trigger notes each change of leader in the transaction that
// makes it, so that the server's own commits tell what was in whose term.
type pairWorld struct {
	t    *testing.T
	pair *dbtest.Pair
	next atomic.Int64 // entry

	mu           sync.Mutex
	acknowledged []int64
	unknown      int
	running      int // callbacks
	terms        []uint64
	lost         int // events that tell of lost history
}

func newPairWorld(t *testing.T) *pairWorld {
	t.Helper()
	w := &pairWorld{t: t, pair: dbtest.RequirePair(t)}
	handle := w.open(w.pair.Primary.DSN())
	w.storage(handle)
	for _, statement := range []string{
		"CREATE TABLE ledger (entry BIGINT PRIMARY KEY, leader TEXT, term BIGINT)",
		"CREATE TABLE changes (leader TEXT, term BIGINT)",
		`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN INSERT INTO changes VALUES (NEW.leader_id, NEW.version); RETURN NULL; END'`,
		"CREATE TRIGGER note AFTER INSERT OR UPDATE ON election FOR EACH ROW WHEN (NEW.id = 2) EXECUTE FUNCTION note()",
	} {
		dbtest.Exec(t, handle, statement)
	}
	return w
}

func (w *pairWorld) open(dsn string) *sql.DB {
	w.t.Helper()
	db, err := sql.Open("pgx", dsn)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (w *pairWorld) storage(db *sql.DB) *election.SQLStorage {
	w.t.Helper()
	s, err := election.NewSQLStorage(db, "")
	require.NoError(w.t, err)
	return s
}

// write makes one entry in a guarded transaction of that reign, and keeps account of it.
func (w *pairWorld) write(ctx context.Context, s *election.SQLStorage, id string, term uint64, more string) error {
	entry := w.next.Add(1)
	err := s.TxnWithLeaderLock(ctx, id, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO ledger VALUES ($1, $2, $3)", entry, id, int64(term))
		if err == nil && more != "" {
			_, err = tx.ExecContext(ctx, more)
		}
		return err
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.acknowledged = append(w.acknowledged, entry)
	case errors.Is(err, election.ErrOutcomeUnknown):
		w.unknown++
	}
	return err
}

func (w *pairWorld) entries() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acknowledged)
}

// requireInTerm checks what the present primary holds: every entry was committed after
// the change of leader that began its term, and before the next change.
func (w *pairWorld) requireInTerm() {
	w.t.Helper()
	handle := w.open(w.pair.Primary.DSN())
	var entries, outside int
	require.NoError(w.t, handle.QueryRow(`SELECT COUNT(*), COUNT(*) FILTER (WHERE (l.leader, l.term) IS DISTINCT FROM (
		SELECT (c.leader, c.term) FROM changes c WHERE pg_xact_commit_timestamp(c.xmin) < pg_xact_commit_timestamp(l.xmin)
		ORDER BY pg_xact_commit_timestamp(c.xmin) DESC, c.term DESC LIMIT 1)) FROM ledger l`).Scan(&entries, &outside))
	assert.Zero(w.t, outside, "entries outside of their term")
	assert.Positive(w.t, entries)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := 1; i < len(w.terms); i++ {
		assert.Greater(w.t, w.terms[i], w.terms[i-1], "terms only grow")
	}
}

// missing is how many acknowledged entries the present primary does not hold.
func (w *pairWorld) missing() int {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var found int
	handle := w.open(w.pair.Primary.DSN())
	require.NoError(w.t, handle.QueryRow("SELECT COUNT(*) FROM ledger WHERE entry = ANY($1)", w.acknowledged).Scan(&found))
	return len(w.acknowledged) - found
}

// requireSound checks an election of which nothing may be lost.
func (w *pairWorld) requireSound() {
	w.t.Helper()
	w.requireInTerm()
	assert.Zero(w.t, w.missing(), "acknowledged entries that are missing")
	w.mu.Lock()
	defer w.mu.Unlock()
	assert.Zero(w.t, w.lost, "history went back")
}

// pairMember is a process that takes part.
type pairMember struct {
	election.Elector
	stop func()
}

// A callback that waits for its COMMIT returns up to 2 s after its ctx has ended: the
// lease leaves it more than that.
const (
	pairLease = 6 * time.Second
	pairRenew = 300 * time.Millisecond
	pairTrust = 3 * time.Second
)

// join lets a member take part through dsn, until the test ends or stop is called.
func (w *pairWorld) join(id, dsn string) *pairMember {
	w.t.Helper()
	s := w.storage(w.open(dsn)).WithGuardTimeout(pairTrust)
	e, err := election.NewElector(election.Config{
		ID: id, Storage: s, LeaseDuration: pairLease, RenewInterval: pairRenew, RenewDeadline: pairTrust,
		LeaderCallback: func(ctx context.Context) error { return w.reign(ctx, s, id) },
		OnEvent: func(event election.Event) {
			if event.Kind == election.EventHistoryLost {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.lost++
			}
		},
	})
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.RunElection(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		assert.ErrorIs(w.t, <-ended, context.Canceled)
	})
	w.t.Cleanup(stop)
	return &pairMember{e, stop}
}

// reign is a callback: entry after entry, alone.
func (w *pairWorld) reign(ctx context.Context, s *election.SQLStorage, id string) error {
	leadership, _ := election.LeadershipFromContext(ctx)
	w.mu.Lock()
	w.running++
	w.terms = append(w.terms, leadership.Term)
	assert.Equal(w.t, 1, w.running, "callbacks overlap")
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running--
	}()
	for ctx.Err() == nil {
		if err := w.write(ctx, s, id, leadership.Term, ""); err != nil {
			if pause(ctx) != nil {
				break
			}
		}
	}
	return nil
}

// pause is for what has failed and is tried again.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(10 * time.Millisecond):
		return nil
	}
}

// until waits for what is to come.
func (w *pairWorld) until(what string, is func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for !is() {
		require.NoError(w.t, pause(ctx), "waited for %s", what)
	}
}

// more waits until entries have been acknowledged.
func (w *pairWorld) more(n int) {
	w.t.Helper()
	before := w.entries()
	w.until(fmt.Sprint(n, " more entries"), func() bool { return w.entries() >= before+n })
}

// leaders are the members that believe to lead.
func leaders(members []*pairMember) (all []*pairMember) {
	for _, m := range members {
		if m.IsLeader() {
			all = append(all, m)
		}
	}
	return all
}

func (w *pairWorld) joinThree() []*pairMember {
	w.t.Helper()
	return []*pairMember{w.join("a", w.pair.DSN()), w.join("b", w.pair.DSN()), w.join("c", w.pair.DSN())}
}

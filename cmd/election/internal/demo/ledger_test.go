package demo

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"testing"

	"github.com/sqlelect/election"
)

// ledgerOf returns a run's directory with an election in it which member leads.
func ledgerOf(t *testing.T) (string, *sql.DB, *election.SQLStorage) {
	t.Helper()
	dir := t.TempDir()
	if err := newLedger(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	db, err := openDatabase(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	storage, err := election.NewSQLStorage(db, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir, db, storage
}

// crown makes id the leader in term, and returns a ctx that carries that reign.
func crown(t *testing.T, storage *election.SQLStorage, id string, term uint64) context.Context {
	t.Helper()
	ctx := context.Background()
	record, err := storage.Get(ctx)
	if err != nil {
		t.Fatal(err)
	}
	record.LeaderID, record.Term = id, term
	if err := storage.Update(ctx, record, true); err != nil {
		t.Fatal(err)
	}
	return election.ContextWithLeadership(ctx, election.Leadership{Leader: &election.Member{ID: id}, Term: term})
}

func TestLedger(t *testing.T) {
	dir, db, storage := ledgerOf(t)
	old := crown(t, storage, "a", 3)
	if e, err := appendGuarded(old, storage, "a"); err != nil || e != (entry{1, 3, "a"}) {
		t.Fatalf("the leader wrote %v, error %v", e, err)
	}
	crown(t, storage, "b", 4)
	now := crown(t, storage, "a", 5)
	if e, err := appendGuarded(old, storage, "a"); !errors.Is(err, election.ErrNotLeader) || e.Term != 3 {
		t.Errorf("a write of an earlier term: %v, error %v", e, err)
	}
	cancelled, cancel := context.WithCancel(old)
	cancel()
	if _, err := appendGuarded(context.WithoutCancel(cancelled), storage, "a"); !errors.Is(err, election.ErrNotLeader) {
		t.Errorf("without its cancellation the ctx lost the term: error %v", err)
	}
	if e, err := appendGuarded(now, storage, "a"); err != nil || e != (entry{2, 5, "a"}) {
		t.Errorf("the leader wrote %v, error %v", e, err)
	}
	if e, err := appendUnguarded(old, db, "a"); err != nil || e != (entry{3, 3, "a"}) {
		t.Errorf("without the guard a late write got %v, error %v", e, err)
	}
	got, err := readLedger(dir)
	if want := []entry{{1, 3, "a"}, {2, 5, "a"}, {3, 3, "a"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("the ledger holds %v, error %v; want %v", got, err, want)
	}
}

func TestDatabaseIsDurable(t *testing.T) {
	_, db, _ := ledgerOf(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "1000"} {
		var got string
		if err := db.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, error %v; want %q", pragma, got, err, want)
		}
	}
}

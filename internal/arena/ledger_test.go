package arena

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/sqldb"
)

// openFile returns a handle on a file without tables, closed when the test ends.
func openFile(t *testing.T) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), Venue{DSN: "sqlite:" + t.TempDir() + "/arena.db"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// createFile is openFile with the tables.
func createFile(t *testing.T) *Ledger {
	t.Helper()
	l := openFile(t)
	if err := l.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// onEachFile runs a subtest on every database that processes can share.
func onEachFile(t *testing.T, run func(t *testing.T, db *dbtest.Database, l *Ledger)) {
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		l, err := newLedger(t.Context(), db.Open(t), "arena_")
		if db.Engine == "sqlite" && db.Path == "" {
			if err == nil {
				t.Error("a database in the memory of one process was accepted")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		run(t, db, l)
	})
}

func write(ctx context.Context, l *Ledger, g guard, e Entry) (Entry, error) {
	err := g(ctx, e.Member, func(tx querier) error { return l.append(ctx, tx, &e) })
	return e, err
}

// crown makes id the leader in term, and returns a ctx that carries that reign.
func crown(t *testing.T, storage election.Storage, id string, term uint64) context.Context {
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
	for _, orm := range []bool{false, true} {
		t.Run(fmt.Sprintf("orm=%v", orm), func(t *testing.T) {
			onEachFile(t, func(t *testing.T, _ *dbtest.Database, l *Ledger) { testLedger(t, l, orm) })
		})
	}
}

func testLedger(t *testing.T, l *Ledger, orm bool) {
	if err := l.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	storage, guarded, err := openStorage(l, orm, 0)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(seq int64, term uint64) Entry { return Entry{seq, term, Process{"a", 2}, fmt.Sprint("a-2/", term)} }
	old := crown(t, storage, "a", 3)
	if e, err := write(old, l, guarded, entry(0, 3)); err != nil || e != entry(1, 3) {
		t.Fatalf("the leader wrote %v, error %v", e, err)
	}
	crown(t, storage, "b", 4)
	now := crown(t, storage, "a", 5)
	if _, err := write(old, l, guarded, entry(0, 3)); !errors.Is(err, election.ErrNotLeader) {
		t.Errorf("a write of an earlier term: error %v", err)
	}
	cancelled, cancel := context.WithCancel(old)
	cancel()
	if _, err := write(context.WithoutCancel(cancelled), l, guarded, entry(0, 3)); !errors.Is(err, election.ErrNotLeader) {
		t.Errorf("without its cancellation the ctx lost the term: error %v", err)
	}
	if e, err := write(now, l, guarded, entry(0, 5)); err != nil || e != entry(2, 5) {
		t.Errorf("the leader wrote %v, error %v", e, err)
	}
	if e, err := write(old, l, noGuard(l.DB), entry(0, 3)); err != nil || e != entry(3, 3) {
		t.Errorf("without the guard a late write got %v, error %v", e, err)
	}
	got, err := l.Entries(t.Context())
	if want := []Entry{entry(1, 3), entry(2, 5), entry(3, 3)}; err != nil || !slices.Equal(got, want) {
		t.Errorf("the ledger holds %v, error %v; want %v", got, err, want)
	}
	if last, err := l.Last(t.Context()); err != nil || last != 3 {
		t.Errorf("the last entry is %d, error %v", last, err)
	}
}

// Whoever reads while many write never finds a gap: no entry is committed before
// one of a lower sequence.
func TestSequenceIsTheOrderOfCommits(t *testing.T) {
	const writers, each = 6, 20
	onEachFile(t, func(t *testing.T, _ *dbtest.Database, l *Ledger) {
		if err := l.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		var writing sync.WaitGroup
		for i := range writers {
			writing.Go(func() {
				for range each {
					err := sqldb.Retry(t.Context(), func() error {
						_, err := write(t.Context(), l, noGuard(l.DB), Entry{Process: Process{Member: fmt.Sprint(i)}})
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			writing.Wait()
		}()
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			default:
			}
			if entries, last := extent(t, l); entries != last || ended && entries != writers*each {
				t.Fatalf("%d entries up to sequence %d, ended %v", entries, last, ended)
			}
		}
	})
}

// extent returns the number of entries and the last sequence, at one moment.
func extent(t *testing.T, l *Ledger) (entries, last int) {
	t.Helper()
	err := sqldb.Retry(t.Context(), func() error {
		return l.DB.QueryRow(l.SQL("SELECT COUNT(*), COALESCE(MAX(seq), 0) FROM {ledger}")).Scan(&entries, &last)
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries, last
}

func TestTablesComeAndGo(t *testing.T) {
	onEachFile(t, func(t *testing.T, db *dbtest.Database, l *Ledger) {
		handle := db.Open(t)
		for _, name := range []string{"election", "ledger", "arena_"} {
			dbtest.Exec(t, handle, "CREATE TABLE "+name+" (x INTEGER)")
		}
		for range 2 { // the names are free again
			if err := l.Create(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, name := range l.Names() {
				dbtest.Count(t, handle, name)
			}
			if err := l.Drop(); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range l.Names() {
			if err := handle.QueryRow("SELECT COUNT(*) FROM " + name).Scan(new(int)); err == nil {
				t.Errorf("table %s is still there", name)
			}
		}
		for _, name := range []string{"election", "ledger", "arena_"} {
			dbtest.Count(t, handle, name)
		}
	})
}

func TestFileIsDurable(t *testing.T) {
	l := createFile(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "1000"} {
		var got string
		if err := l.DB.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, error %v; want %q", pragma, got, err, want)
		}
	}
	if entries, last := extent(t, l); entries+last != 0 || !slices.Equal(l.Names(), []string{"election", "ledger", "counter"}) {
		t.Errorf("%d entries in tables %v", entries, l.Names())
	}
}

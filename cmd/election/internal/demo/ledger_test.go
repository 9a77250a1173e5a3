package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// openLedger returns a handle on the venue's tables, closed when the test ends.
func openLedger(t *testing.T, at venue) *ledger {
	t.Helper()
	l, err := at.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	return l
}

// createLedger is openLedger where no tables are yet.
func createLedger(t *testing.T, at venue) *ledger {
	t.Helper()
	l := openLedger(t, at)
	if err := l.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// onEachFile runs a subtest on every database that processes can share.
func onEachFile(t *testing.T, run func(t *testing.T, db *dbtest.Database, l *ledger)) {
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		l, err := newLedger(t.Context(), db.Open(t), "demo_")
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

func storageOf(t *testing.T, l *ledger) *election.SQLStorage {
	t.Helper()
	storage, err := l.storage()
	if err != nil {
		t.Fatal(err)
	}
	return storage
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
	onEachFile(t, func(t *testing.T, _ *dbtest.Database, l *ledger) {
		if err := l.create(t.Context()); err != nil {
			t.Fatal(err)
		}
		storage := storageOf(t, l)
		old := crown(t, storage, "a", 3)
		if e, err := l.appendGuarded(old, storage, "a"); err != nil || e != (entry{1, 3, "a"}) {
			t.Fatalf("the leader wrote %v, error %v", e, err)
		}
		crown(t, storage, "b", 4)
		now := crown(t, storage, "a", 5)
		if e, err := l.appendGuarded(old, storage, "a"); !errors.Is(err, election.ErrNotLeader) || e.Term != 3 {
			t.Errorf("a write of an earlier term: %v, error %v", e, err)
		}
		cancelled, cancel := context.WithCancel(old)
		cancel()
		if _, err := l.appendGuarded(context.WithoutCancel(cancelled), storage, "a"); !errors.Is(err, election.ErrNotLeader) {
			t.Errorf("without its cancellation the ctx lost the term: error %v", err)
		}
		if e, err := l.appendGuarded(now, storage, "a"); err != nil || e != (entry{2, 5, "a"}) {
			t.Errorf("the leader wrote %v, error %v", e, err)
		}
		if e, err := l.appendUnguarded(old, "a"); err != nil || e != (entry{3, 3, "a"}) {
			t.Errorf("without the guard a late write got %v, error %v", e, err)
		}
		got, err := l.entries(t.Context())
		if want := []entry{{1, 3, "a"}, {2, 5, "a"}, {3, 3, "a"}}; err != nil || !slices.Equal(got, want) {
			t.Errorf("the ledger holds %v, error %v; want %v", got, err, want)
		}
	})
}

// Whoever reads while many write never finds a gap: no entry is committed before
// one of a lower sequence.
func TestSequenceIsTheOrderOfCommits(t *testing.T) {
	const writers, each = 6, 20
	onEachFile(t, func(t *testing.T, _ *dbtest.Database, l *ledger) {
		if err := l.create(t.Context()); err != nil {
			t.Fatal(err)
		}
		var writing sync.WaitGroup
		for i := range writers {
			writing.Go(func() {
				for range each {
					err := sqldb.Retry(t.Context(), func() error {
						_, err := l.appendUnguarded(t.Context(), fmt.Sprint(i))
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
func extent(t *testing.T, l *ledger) (entries, last int) {
	t.Helper()
	err := sqldb.Retry(t.Context(), func() error {
		return l.db.QueryRow(l.sql("SELECT COUNT(*), COALESCE(MAX(seq), 0) FROM {ledger}")).Scan(&entries, &last)
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries, last
}

func TestTablesComeAndGo(t *testing.T) {
	onEachFile(t, func(t *testing.T, db *dbtest.Database, l *ledger) {
		handle := db.Open(t)
		for _, name := range []string{"election", "ledger", "demo_"} {
			dbtest.Exec(t, handle, "CREATE TABLE "+name+" (x INTEGER)")
		}
		for range 2 { // the names are free again
			if err := l.create(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, name := range l.names() {
				dbtest.Count(t, handle, name)
			}
			if err := l.drop(); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range l.names() {
			if err := handle.QueryRow("SELECT COUNT(*) FROM " + name).Scan(new(int)); err == nil {
				t.Errorf("table %s is still there", name)
			}
		}
		for _, name := range []string{"election", "ledger", "demo_"} {
			dbtest.Count(t, handle, name)
		}
	})
}

// TestOwnFileIsDurable also shows that a run's own tables have plain names.
func TestOwnFileIsDurable(t *testing.T) {
	l := createLedger(t, ownFile(t.TempDir()))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "1000"} {
		var got string
		if err := l.db.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, error %v; want %q", pragma, got, err, want)
		}
	}
	if entries, last := extent(t, l); entries+last != 0 || !slices.Equal(l.names(), []string{"election", "ledger", "counter"}) {
		t.Errorf("%d entries in tables %v", entries, l.names())
	}
}

func TestGuestsHaveNamesOfTheirOwn(t *testing.T) {
	one, other := guestIn("mysql://h/db"), guestIn("mysql://h/db")
	if one.prefix == other.prefix || !strings.HasPrefix(one.prefix, "election_demo_") || one.own() {
		t.Errorf("got the prefixes %q and %q", one.prefix, other.prefix)
	}
	for _, d := range []*dialect.Dialect{dialect.SQLite(), dialect.MariaDB(), dialect.PostgreSQL()} {
		for _, name := range (&ledger{prefix: one.prefix}).names() {
			if err := d.CheckIdentifier(name); err != nil {
				t.Errorf("table name %s: %v", name, err)
			}
		}
	}
}

func TestVenueIsReadBack(t *testing.T) {
	for _, dsn := range []string{"sqlite:a b\n\"ä\"\xff.db", "mysql://u:a%40b@h/db"} {
		at := guestIn(dsn)
		text := at.line()
		if strings.Count(text, "\n") != 1 {
			t.Errorf("got line %q", text)
		}
		if got, err := parseVenue(text); err != nil || got != at {
			t.Errorf("%q was read as %+v, error %v", text, got, err)
		}
	}
	for _, text := range []string{"", "hold 3", `"" ""`} {
		if v, err := parseVenue(text); err == nil {
			t.Errorf("%q was read as %+v", text, v)
		}
	}
}

func TestVenueHidesItsSecrets(t *testing.T) {
	for _, dsn := range []string{
		"oracle://u:geheim@h/db", "postgres://u:geheim@127.0.0.1:1/db?sslmode=disable",
		"mysql://u:geheim@127.0.0.1:1/db", "mysql://u:geheim@h/db?parseTime=perhaps",
	} {
		at := guestIn(dsn)
		_, err := at.open(t.Context())
		if err == nil || strings.Contains(err.Error()+at.String(), "geheim") || !strings.Contains(err.Error(), "***") {
			t.Errorf("%s: error %v", at, err)
		}
	}
}

package election_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/sqldb"
)

// guardWorld is an election that "a" leads, as two processes see it, and a table
// to write to.
type guardWorld struct {
	engine      string
	db, otherDB *sql.DB
	a, b        election.Storage
	term        uint64
}

func newGuardWorld(t *testing.T, db *dbtest.Database, kind storageKind) guardWorld {
	t.Helper()
	w := guardWorld{engine: db.Engine, db: db.OpenSingle(t), otherDB: db.Open(t)}
	w.a, w.b = kind.must(t, w.db), kind.must(t, w.otherDB)
	dbtest.Exec(t, w.otherDB, "CREATE TABLE log (entry VARCHAR(40) PRIMARY KEY)")
	w.term = mustLead(t, w.a, "a")
	return w
}

// requireHeldUp requires that a change of leader to id gives up, while a guarded transaction is
// open. What the change has sent already a server still carries out, and refuses: the transaction
// goes on until then.
func (w guardWorld) requireHeldUp(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := lead(ctx, w.b, id)
	require.Error(t, err, "the leader changed under a guarded transaction")
	atWork := map[string]string{
		"mysql": "SELECT COUNT(*) FROM information_schema.processlist" +
			" WHERE db = DATABASE() AND command = 'Query' AND id <> CONNECTION_ID()",
		"postgres": "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'" +
			" AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
	}[w.engine]
	if atWork == "" {
		return
	}
	waitFor(t, 10*time.Second, "the last statement of the change", func() bool {
		var n int
		require.NoError(t, w.otherDB.QueryRow(atWork).Scan(&n))
		return n == 0
	})
}

func write(tx *sql.Tx, entry string) error {
	_, err := tx.Exec("INSERT INTO log (entry) VALUES ('" + entry + "')")
	return err
}

// entries reads the log. A database in memory refuses readers while somebody commits.
func (w guardWorld) entries(t *testing.T) (entries []string) {
	t.Helper()
	err := sqldb.Retry(t.Context(), func() (err error) {
		rows, err := sqldb.Strings(t.Context(), w.otherDB, 1, "SELECT entry FROM log ORDER BY entry")
		entries = slices.Concat(rows...)
		return err
	})
	require.NoError(t, err)
	return entries
}

func TestGuardCommitsForTheLeaderOnly(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w, ctx := newGuardWorld(t, db, kind), t.Context()
		require.NoError(t, guarded(ctx, w.a, "a", func(tx *sql.Tx) error { return write(tx, "a") }))
		require.NoError(t, guarded(inTerm(ctx, "a", w.term), w.a, "a", func(tx *sql.Tx) error { return write(tx, "a in term") }))
		for _, id := range []string{"b", ""} {
			err := guarded(ctx, w.a, id, func(tx *sql.Tx) error { return write(tx, "never") })
			require.ErrorIs(t, err, election.ErrNotLeader)
			assert.False(t, election.IsRetryable(err))
		}
		boom := errors.New("boom")
		require.Same(t, boom, guarded(ctx, w.a, "a", func(tx *sql.Tx) error {
			require.NoError(t, write(tx, "undone"))
			return boom
		}))
		assert.Equal(t, []string{"a", "a in term"}, w.entries(t))
	})
}

func TestGuardNeedsAFunction(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t)
	require.Error(t, openSQL(t, db).TxnWithLeaderLock(t.Context(), "a", nil))
	require.Error(t, openORM(t, db).TxnWithLeaderLock(t.Context(), "a", nil))
}

// Before anything is stored nobody leads, not even the empty ID.
func TestTrap25EmptyLeader(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		s, ctx := kind.must(t, db.Open(t)), t.Context()
		never := func(*sql.Tx) error { return errors.New("was called") }
		for _, id := range []string{"", "a"} {
			require.ErrorIs(t, guarded(ctx, s, id, never), election.ErrNotLeader)
		}
		mustLead(t, s, "a")
		mustLead(t, s, "")
		for _, id := range []string{"", "a"} {
			require.ErrorIs(t, guarded(ctx, s, id, never), election.ErrNotLeader)
		}
	})
}

// IDs are compared byte for byte, whatever the column's collation.
func TestTrap25LookAlikes(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle, ctx := db.Open(t), t.Context()
		if db.Engine == "sqlite" { // a table made by hand, with the worst collation
			dbtest.Exec(t, handle, "CREATE TABLE election (id INTEGER PRIMARY KEY, leader_id TEXT COLLATE NOCASE, record TEXT, version INTEGER)")
		}
		s := kind.must(t, handle)
		ids := []string{"A", "a", "A ", " A", "Á", "A\u0301", "Ａ", "A\t", "01", "1", "1.0"}
		for _, leader := range ids {
			mustLead(t, s, leader)
			for _, id := range ids {
				err := guarded(ctx, s, id, func(*sql.Tx) error { return nil })
				if id == leader {
					require.NoError(t, err, "%q leads", leader)
				} else {
					require.ErrorIs(t, err, election.ErrNotLeader, "%q leads, %q asks", leader, id)
				}
			}
		}
	})
}

// A transaction of an earlier reign of the same member must not commit, neither
// when the next reign began before it nor when it wants to begin meanwhile.
func TestTrap02GuardHeldToTerm(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		first := inTerm(t.Context(), "a", w.term)
		err := guarded(first, w.a, "a", func(tx *sql.Tx) error {
			w.requireHeldUp(t, "a")
			return write(tx, "first reign")
		})
		require.NoError(t, err)

		second := mustLead(t, w.b, "a")
		err = guarded(first, w.a, "a", func(tx *sql.Tx) error { return write(tx, "too late") })
		require.ErrorIs(t, err, election.ErrNotLeader)
		require.NoError(t, guarded(inTerm(t.Context(), "a", second), w.a, "a", func(tx *sql.Tx) error { return write(tx, "second reign") }))
		// Detached from cancellation, as a draining callback does, it keeps its term.
		err = guarded(context.WithoutCancel(first), w.a, "a", func(tx *sql.Tx) error { return write(tx, "too late") })
		require.ErrorIs(t, err, election.ErrNotLeader)
		// A ctx of somebody else's reign is nobody's leave to write.
		for _, l := range []election.Leadership{{Leader: &election.Member{ID: "b"}, Term: second}, {Term: second}, {}} {
			ctx := election.ContextWithLeadership(t.Context(), l)
			require.ErrorIs(t, guarded(ctx, w.a, "a", func(*sql.Tx) error { return nil }), election.ErrNotLeader)
		}
		assert.Equal(t, []string{"first reign", "second reign"}, w.entries(t))
	})
}

// While a guarded transaction is open, even one that writes nothing, no change of
// leader commits; once it has ended, one does.
func TestTrap03ChangeWaits(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		require.NoError(t, guarded(t.Context(), w.a, "a", func(*sql.Tx) error {
			w.requireHeldUp(t, "b")
			return nil
		}))
		mustLead(t, w.b, "b")
		require.ErrorIs(t, guarded(t.Context(), w.a, "a", func(*sql.Tx) error { return nil }), election.ErrNotLeader)
	})
}

// A guarded transaction that began to wait before a hand-over sees the new
// leader, not the past in which it began.
func TestTrap05OldSnapshot(t *testing.T) {
	t.Parallel()
	for _, kind := range storageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
				handle, statements := db.OpenCounted(t)
				a, other := kind.must(t, handle), db.Open(t)
				mustLead(t, a, "a")
				statements.Take()

				handOver := dbtest.Begin(t, other, "UPDATE election SET leader_id = 'b', version = version + 1 WHERE id = 2")
				result := make(chan error)
				go func() {
					result <- guarded(t.Context(), a, "a", func(*sql.Tx) error { return errors.New("was called") })
				}()
				for sent := 0; sent < 2; runtime.Gosched() { // BEGIN and the guard
					sent += len(statements.Take())
				}
				handOver.Commit()
				require.ErrorIs(t, <-result, election.ErrNotLeader)
			})
		})
	}
}

// A reader, whom SQLite asks to leave before it commits in all but WAL mode, holds a
// guarded transaction up and does not end it; one that stays ends it for certain.
func TestGuardOutwaitsReaders(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "sqlite" {
			t.Skip("readers do not meet writers there")
		}
		s := openSQL(t, db.Open(t)).WithGuardTimeout(time.Second)
		mustLead(t, s, "a")
		readers := db.Open(t)
		dbtest.Exec(t, readers, "CREATE TABLE entries (n integer)")
		insert := func(tx *sql.Tx) error { _, err := tx.Exec("INSERT INTO entries VALUES (1)"); return err }
		read := func() *dbtest.Txn { return dbtest.Begin(t, readers, "SELECT COUNT(*) FROM entries") }

		reader, result := read(), make(chan error, 1)
		inserted := make(chan struct{})
		go func() {
			result <- guarded(t.Context(), s, "a", func(tx *sql.Tx) error {
				defer close(inserted)
				return insert(tx)
			})
		}()
		<-inserted
		reader.Commit()
		require.NoError(t, <-result)
		require.Equal(t, 1, dbtest.Count(t, readers, "entries"))

		reader = read()
		err := guarded(t.Context(), s, "a", insert)
		reader.Commit()
		want := 2
		if err != nil { // not in WAL mode
			require.NotErrorIs(t, err, election.ErrOutcomeUnknown)
			require.False(t, election.IsRetryable(err), "%v", err) // the guard timeout has passed
			want = 1
		}
		require.Equal(t, want, dbtest.Count(t, readers, "entries"))
		require.NoError(t, guarded(t.Context(), s, "a", insert))
	})
}

// On SQLite a guarded transaction costs one statement more than a bare one, and
// needs no more than a driver connection reached through wrappers.
func TestGuardCostsOneStatement(t *testing.T) {
	t.Parallel()
	handle, statements := dbtest.SQLite(t).OpenCounted(t)
	s := openSQL(t, handle)
	term := mustLead(t, s, "a")
	for _, ctx := range []context.Context{t.Context(), inTerm(t.Context(), "a", term)} {
		statements.Take()
		require.NoError(t, s.TxnWithLeaderLock(ctx, "a", func(tx *sql.Tx) error { return nil }))
		sent := statements.Take()
		require.Len(t, sent, 4, "%q", sent)
		assert.Equal(t, "BEGIN", sent[0])
		assert.True(t, strings.HasPrefix(sent[1], "UPDATE"), sent[1])
		assert.Equal(t, "COMMIT", sent[2])
		assert.Equal(t, "ROLLBACK", sent[3], "of nothing: it is for database/sql, and reaches no file")
	}
	statements.Take()
	r, err := s.Get(t.Context())
	require.NoError(t, err)
	require.Len(t, statements.Take(), 1, "Get reads both rows in one statement")
	require.NoError(t, s.Update(t.Context(), r, false))
	require.Len(t, statements.Take(), 1, "a renewal is one statement")
}

// The gorm session is a transaction like any of gorm's.
func TestGuardWithGORM(t *testing.T) {
	t.Parallel()
	type Entry struct {
		Entry string `gorm:"primaryKey"`
	}
	boom := errors.New("boom")
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle := db.Open(t)
		g := openGORM(t, handle)
		s, err := election.NewORMStorage(g, "")
		require.NoError(t, err)
		require.NoError(t, g.AutoMigrate(&Entry{}))
		term := mustLead(t, s, "a")
		stored := func() (entries []string) {
			require.NoError(t, g.Model(&Entry{}).Order("entry").Pluck("entry", &entries).Error)
			return entries
		}
		ctx := inTerm(t.Context(), "a", term)
		require.NoError(t, s.TxnWithLeaderLock(ctx, "a", func(tx *gorm.DB) error {
			_, ok := election.LeadershipFromContext(tx.Statement.Context)
			assert.True(t, ok, "the session carries the ctx")
			require.NoError(t, tx.Create(&Entry{"1"}).Error)
			require.ErrorIs(t, tx.Transaction(func(nested *gorm.DB) error {
				require.NoError(t, nested.Create(&Entry{"2 undone"}).Error)
				return boom
			}), boom)
			require.NoError(t, tx.Transaction(func(nested *gorm.DB) error { return nested.Create(&Entry{"3"}).Error }))
			if db.Engine == "postgres" { // where an error ends the transaction, but for a nested one
				require.Error(t, tx.Transaction(func(nested *gorm.DB) error { return nested.Create(&Entry{"1"}).Error }))
				return nil
			}
			require.Error(t, tx.Create(&Entry{"1"}).Error) // a duplicate, which fn swallows
			return nil
		}))
		assert.Equal(t, []string{"1", "3"}, stored())
		require.ErrorIs(t, s.TxnWithLeaderLock(ctx, "a", func(tx *gorm.DB) error {
			require.NoError(t, tx.Create(&Entry{"4"}).Error)
			return boom
		}), boom)
		require.ErrorIs(t, s.TxnWithLeaderLock(ctx, "a", func(tx *gorm.DB) error {
			require.NoError(t, tx.Create(&Entry{"5"}).Error)
			tx.Rollback()
			_ = tx.Create(&Entry{"6"})
			return nil
		}), election.ErrTxnEnded)
		assert.Equal(t, []string{"1", "3"}, stored())
		require.NoError(t, g.Create(&Entry{"7"}).Error, "the user's own handle is as it was")
	})
}

// Two elections under one ID nest: each guard takes its own reign from the ctx.
func TestGuardsOfTwoElections(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle := db.Open(t)
		storages := map[string]election.Storage{}
		for _, name := range []string{"", "shard", "Shard", "shard "} {
			s, err := kind.open(handle, "", name)
			require.NoError(t, err)
			storages[name] = s
			mustLead(t, s, "leader of "+name)
		}
		for name := range storages {
			for other, s := range storages {
				err := guarded(t.Context(), s, "leader of "+name, func(*sql.Tx) error { return nil })
				if name == other {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, election.ErrNotLeader)
				}
			}
		}
	})
}

// A lock that is held is waited for, and a conflict retried, while fn has not run. When the time
// for that is up, the error says so, and that it is no use to run it again so.
func TestGuardWaitsForTheLock(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		lock := []string{"INSERT INTO log (entry) VALUES ('blocker')"} // of the file; servers lock rows
		if db.Engine != "sqlite" {
			lock = append(lock, "UPDATE election SET leader_id = 'a' WHERE id = 2")
		}
		blocker := dbtest.Begin(t, w.otherDB, lock...)
		err := guarded(t.Context(), withGuardTimeout(w.a, 500*time.Millisecond), "a", func(*sql.Tx) error { panic("was called") })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "guard timeout")
		require.False(t, election.IsRetryable(err), "%v", err)
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		err = guarded(short, w.a, "a", func(*sql.Tx) error { panic("was called") })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, election.IsRetryable(err), "%v", err)
		result := make(chan error)
		go func() {
			result <- guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error { return write(tx, "waited") })
		}()
		blocker.Commit()
		require.NoError(t, <-result)
		assert.Equal(t, []string{"blocker", "waited"}, w.entries(t))
	})
}

func BenchmarkGuardedTxn(b *testing.B) {
	db := dbtest.SQLite(b).Open(b)
	s := openSQL(b, db)
	dbtest.Exec(b, db, "CREATE TABLE log (entry INTEGER PRIMARY KEY, text TEXT)")
	r := &election.Record{LeaderID: "a", Term: 1}
	require.NoError(b, s.Update(b.Context(), r, true))
	insert := func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO log (text) VALUES ('x')")
		return err
	}
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			tx, err := db.Begin()
			if err == nil {
				err = errors.Join(insert(tx), tx.Commit())
			}
			require.NoError(b, err)
		}
	})
	b.Run("guarded", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, s.TxnWithLeaderLock(b.Context(), "a", insert))
		}
	})
}

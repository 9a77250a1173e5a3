package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// Whatever isolation level a program sets for its sessions, a guarded transaction
// and a change of leader never both commit.

// eachIsolationLevel runs a subtest for each level that a server has, with that
// level in the DSN.
func eachIsolationLevel(t *testing.T, run func(t *testing.T, db *dbtest.Database, kind storageKind)) {
	t.Helper()
	eachServerStorageAndPooler(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		levels := map[string]string{"READ-UNCOMMITTED": "", "READ-COMMITTED": "read committed",
			"REPEATABLE-READ": "repeatable read", "SERIALIZABLE": "serializable"}
		for mysql, postgres := range levels {
			if db.Engine == "postgres" && postgres == "" {
				continue // the same as the next one
			}
			t.Run(mysql, func(t *testing.T) {
				t.Parallel()
				variable := "tx_isolation"
				if db.Engine == "mysql" && engine(t, db.Open(t)) == "MySQL" {
					variable = "transaction_isolation"
				}
				at := withSettings(t, db.Fresh(t), map[string]string{variable: "'" + mysql + "'"},
					map[string]string{"default_transaction_isolation": postgres})
				require.Contains(t, sessionState(t, at.Open(t)), map[string]string{"mysql": mysql, "postgres": postgres}[db.Engine])
				run(t, at, kind)
			})
		}
	})
}

// awaitStatements waits until n have been sent.
func awaitStatements(statements *dbtest.Statements, n int) {
	for sent := 0; sent < n; runtime.Gosched() {
		sent += len(statements.Take())
	}
}

// A guarded transaction that began to wait before a hand-over sees the new leader,
// whether the change is another program's or takes the gate too.
func TestTrap05IsolationLevels(t *testing.T) {
	t.Parallel()
	eachIsolationLevel(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle, statements := db.OpenCounted(t)
		handle.SetMaxOpenConns(1)
		changing, changes := db.OpenCounted(t)
		other := db.Open(t)
		a, b := kind.must(t, handle), kind.must(t, changing)
		mustLead(t, a, "a")
		runGuard := func() chan error {
			statements.Take()
			result := make(chan error, 1)
			go func() {
				result <- guarded(t.Context(), a, "a", func(*sql.Tx) error { return errors.New("was called") })
			}()
			awaitStatements(statements, 2) // BEGIN and the guard
			return result
		}

		byHand := dbtest.Begin(t, other, "UPDATE election SET leader_id = 'b', version = version + 1 WHERE id = 2")
		result := runGuard()
		byHand.Commit()
		require.ErrorIs(t, <-result, election.ErrNotLeader)

		mustLead(t, b, "a")
		r, err := b.Get(t.Context())
		require.NoError(t, err)
		r.LeaderID, r.Term = "b", r.Term+1
		held := dbtest.Begin(t, other, "SELECT version FROM election WHERE id = 1 FOR UPDATE") // holds the change up at its last statement
		changes.Take()
		changed := make(chan error, 1)
		go func() { changed <- b.Update(t.Context(), r, true) }()
		for sent := ""; !strings.Contains(sent, "SET leader_id = ?, record") && !strings.Contains(sent, "SET leader_id = $1, record"); runtime.Gosched() {
			sent += fmt.Sprint(changes.Take())
		}
		result = runGuard()
		held.Commit()
		require.NoError(t, <-changed)
		require.ErrorIs(t, <-result, election.ErrNotLeader)
	})
}

// A change of leader that comes while a guarded transaction is open waits for it,
// also if that one has an old snapshot of everything else.
func TestTrap05ChangeWaitsAtEveryLevel(t *testing.T) {
	t.Parallel()
	eachIsolationLevel(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		changed := make(chan error, 1)
		require.NoError(t, guarded(inTerm(t.Context(), "a", w.term), w.a, "a", func(tx *sql.Tx) error {
			var n int
			require.NoError(t, tx.QueryRow("SELECT COUNT(*) FROM log").Scan(&n))
			w.requireHeldUp(t, "b")
			go func() { _, err := lead(t.Context(), w.b, "b"); changed <- err }()
			return write(tx, "before the change")
		}))
		require.NoError(t, <-changed)
		require.ErrorIs(t, guarded(t.Context(), w.a, "a", func(*sql.Tx) error { return nil }), election.ErrNotLeader)
		require.Equal(t, []string{"before the change"}, w.entries(t))
	})
}

// While workers write under the guard, each in the term that it knows, the term
// changes again and again: once a change is acknowledged, no row of an earlier term
// appears any more. Nothing keeps either side out for long.
func TestTrap05NoRowOfAnEarlierTerm(t *testing.T) {
	t.Parallel()
	eachIsolationLevel(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		const workers, changes = 4, 15
		handle, other := db.Open(t), db.Open(t)
		a, b := kind.must(t, handle), kind.must(t, other)
		dbtest.Exec(t, other, "CREATE TABLE late (term BIGINT NOT NULL, worker INTEGER NOT NULL)")
		var term atomic.Uint64
		term.Store(mustLead(t, b, "a"))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var running sync.WaitGroup
		for i := range workers {
			running.Go(func() {
				for ctx.Err() == nil {
					known := term.Load()
					err := guarded(inTerm(ctx, "a", known), a, "a", func(tx *sql.Tx) error {
						_, err := tx.Exec(fmt.Sprintf("INSERT INTO late VALUES (%d, %d)", known, i))
						return err
					})
					if err != nil && ctx.Err() == nil && !errors.Is(err, election.ErrNotLeader) && !election.IsRetryable(err) {
						assert.NoError(t, err)
						return
					}
				}
			})
		}
		count := func(before uint64) (n int) {
			row := other.QueryRow(fmt.Sprintf("SELECT COUNT(*) FROM late WHERE term < %d", before))
			require.NoError(t, row.Scan(&n))
			return n
		}
		seen := map[uint64]int{}
		for range changes {
			before := count(term.Load() + 1)
			waitFor(t, 10*time.Second, "a row of this term", func() bool { return count(term.Load()+1) > before })
			next := mustLead(t, b, "a")
			seen[next] = count(next)
			term.Store(next)
		}
		waitFor(t, 10*time.Second, "a row of each worker", func() bool {
			var n int
			require.NoError(t, other.QueryRow("SELECT COUNT(DISTINCT worker) FROM late").Scan(&n))
			return n == workers
		})
		cancel()
		running.Wait()
		for next, n := range seen {
			assert.Equal(t, n, count(next), "rows of a term before %d came after it had begun", next)
		}
	})
}

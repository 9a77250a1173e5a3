package election_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/sqldb"
)

const (
	workerDriver = "ELECTION_TEST_WORKER_DRIVER"
	workerDSN    = "ELECTION_TEST_WORKER_DSN"
)

// sqliteSources are files of all kinds that make a difference to whoever waits for a lock.
func sqliteSources(t *testing.T) map[string]func(path string) (driver, dsn string) {
	sources := map[string]func(path string) (driver, dsn string){}
	add := func(name, driver, parameters string) {
		sources[name] = func(path string) (string, string) { return driver, sqldb.FileDSN(path) + parameters }
	}
	for _, mode := range []string{"WAL", "DELETE"} {
		add("modernc, "+mode, "sqlite", "?_pragma=journal_mode("+mode+")")
		add("modernc, "+mode+", busy timeout", "sqlite", "?_pragma=journal_mode("+mode+")&_pragma=busy_timeout(5000)")
		if slices.Contains(sql.Drivers(), "sqlite3") {
			add("mattn, "+mode, "sqlite3", "?_journal_mode="+mode) // it has a busy timeout of 5 s
		}
	}
	return sources
}

// renewMember renews the entry of id n times, as a member does that lives.
func renewMember(storage *election.SQLStorage, id string, n uint64) error {
	var before *election.Member
	for i := range n {
		after := &election.Member{ID: id, Nonce: "x", Renewals: i + 1, RenewTime: time.Now()}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // a round, at the defaults
		err := storage.UpdateMember(ctx, before, after)
		cancel()
		if err != nil {
			return fmt.Errorf("renewal %d: %w", i, err)
		}
		before = after
	}
	return nil
}

// A leader that runs guarded transactions one after the other holds up neither renewals, of its
// own process or of another one, nor a change of leader.
func TestGuardedTransactionsLeaveGaps(t *testing.T) {
	for name, source := range sqliteSources(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			driver, dsn := source(filepath.Join(t.TempDir(), "election.db"))
			db, err := sql.Open(driver, dsn)
			require.NoError(t, err)
			t.Cleanup(func() { _ = db.Close() })
			_, err = db.Exec(`CREATE TABLE work (n integer)`)
			require.NoError(t, err)
			storage := openSQL(t, db)
			require.NoError(t, storage.Update(t.Context(), &election.Record{LeaderID: "a", Term: 1}, true))

			process := exec.Command(os.Args[0], "-test.run=^TestWorkerProcess$", "-test.timeout=120s")
			process.Env = append(os.Environ(), workerDriver+"="+driver, workerDSN+"="+dsn)
			output, err := process.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, process.Start())
			t.Cleanup(func() {
				_ = process.Process.Kill()
				_ = process.Wait()
			})
			lines := bufio.NewScanner(output)
			said := func() string {
				require.True(t, lines.Scan(), "the process has ended")
				return lines.Text()
			}
			require.Equal(t, "working", said())
			require.NoError(t, renewMember(storage, "b", 40))
			require.Equal(t, "renewed: <nil>", said())
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second) // three rounds
			defer cancel()
			record, err := storage.Get(ctx)
			require.NoError(t, err)
			record.LeaderID, record.Term = "b", record.Term+1
			require.NoError(t, storage.Update(ctx, record, true))
			require.Equal(t, "not the leader: true", said())
		})
	}
}

// TestWorkerProcess is not a test of its own: it is the process of a leader that works off a
// queue in guarded transactions of 10 ms, until it is no leader any more.
func TestWorkerProcess(t *testing.T) {
	if os.Getenv(workerDSN) == "" {
		t.Skip("run by another test as a process of its own")
	}
	db, err := sql.Open(os.Getenv(workerDriver), os.Getenv(workerDSN))
	require.NoError(t, err)
	storage := openSQL(t, db)
	for n := 0; ; n++ {
		err := storage.TxnWithLeaderLock(t.Context(), "a", func(tx *sql.Tx) error {
			work := time.NewTimer(10 * time.Millisecond)
			defer work.Stop()
			_, err := tx.Exec(`INSERT INTO work VALUES (1)`)
			<-work.C
			return err
		})
		switch {
		case err != nil:
			fmt.Println("not the leader:", errors.Is(err, election.ErrNotLeader))
			return
		case n == 10:
			fmt.Println("working")
			go func() { fmt.Println("renewed:", renewMember(storage, "a", 40)) }()
		}
	}
}

// busyTimeoutOf asks the one connection of a pool.
func busyTimeoutOf(t *testing.T, q sqldb.Execer) (ms int) {
	require.NoError(t, q.QueryRowContext(t.Context(), "PRAGMA busy_timeout").Scan(&ms))
	return ms
}

// Each call leaves the busy timeout as the program has set it, and what runs in a guarded
// transaction has it, too; also when the call failed.
func TestTrap28BusyTimeoutIsRestored(t *testing.T) {
	for name, source := range sqliteSources(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			driver, dsn := source(filepath.Join(t.TempDir(), "election.db"))
			db, err := sql.Open(driver, dsn)
			require.NoError(t, err)
			t.Cleanup(func() { _ = db.Close() })
			db.SetMaxOpenConns(1)
			for _, ms := range []int{0, 7, 4321} {
				_, err = db.Exec(fmt.Sprint("PRAGMA busy_timeout = ", ms))
				require.NoError(t, err)
				storage := openSQL(t, db).Election(fmt.Sprint(ms))
				require.Equal(t, ms, busyTimeoutOf(t, db), "open")
				require.NoError(t, storage.Update(t.Context(), &election.Record{LeaderID: "a", Term: 1}, true))
				require.Equal(t, ms, busyTimeoutOf(t, db), "change of leader")
				require.ErrorIs(t, storage.Update(t.Context(), &election.Record{LeaderID: "a", Term: 1}, true), election.ErrRecordConflict)
				require.Equal(t, ms, busyTimeoutOf(t, db), "conflict")
				record, err := storage.Get(t.Context())
				require.NoError(t, err)
				require.Equal(t, ms, busyTimeoutOf(t, db), "read")
				require.NoError(t, storage.Update(t.Context(), record, false))
				require.Equal(t, ms, busyTimeoutOf(t, db), "renewal")
				require.NoError(t, renewMember(storage, "a", 2))
				require.Equal(t, ms, busyTimeoutOf(t, db), "renewal of a member")
				_, err = storage.GetMembers(t.Context())
				require.NoError(t, err)
				require.Equal(t, ms, busyTimeoutOf(t, db), "members")
				require.NoError(t, storage.TxnWithLeaderLock(t.Context(), "a", func(tx *sql.Tx) error {
					require.Equal(t, ms, busyTimeoutOf(t, tx), "inside")
					return nil
				}))
				require.Equal(t, ms, busyTimeoutOf(t, db), "guarded transaction")
				require.ErrorIs(t, storage.TxnWithLeaderLock(t.Context(), "b", func(tx *sql.Tx) error { return nil }), election.ErrNotLeader)
				require.Equal(t, ms, busyTimeoutOf(t, db), "refused")
				over, cancel := context.WithCancel(t.Context())
				cancel()
				require.Error(t, storage.Update(over, record, false))
				require.Equal(t, ms, busyTimeoutOf(t, db), "cancelled")
			}
		})
	}
}

// A listener's connection goes back as it was.
func TestTrap28ListenerOnSQLite(t *testing.T) {
	for name, source := range sqliteSources(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			driver, dsn := source(filepath.Join(t.TempDir(), "election.db"))
			db, err := sql.Open(driver, dsn)
			require.NoError(t, err)
			t.Cleanup(func() { _ = db.Close() })
			db.SetMaxOpenConns(2)
			storage := openSQL(t, db)
			// Both connections.
			one, err := db.Conn(t.Context())
			require.NoError(t, err)
			_, err = one.ExecContext(t.Context(), "PRAGMA busy_timeout = 4321")
			require.NoError(t, err)
			two, err := db.Conn(t.Context())
			require.NoError(t, err)
			_, err = two.ExecContext(t.Context(), "PRAGMA busy_timeout = 4321")
			require.NoError(t, err)
			require.NoError(t, errors.Join(one.Close(), two.Close()))
			ctx, cancel := context.WithCancel(t.Context())
			require.ErrorIs(t, storage.Watch(ctx, func() { cancel() }), context.Canceled)
			one, err = db.Conn(t.Context())
			require.NoError(t, err)
			require.Equal(t, 4321, busyTimeoutOf(t, one))
			two, err = db.Conn(t.Context())
			require.NoError(t, err)
			require.Equal(t, 4321, busyTimeoutOf(t, two))
			require.NoError(t, errors.Join(one.Close(), two.Close()))
		})
	}
}

// A program's temporary table of the same name is not the table of the elections.
func TestTemporaryTableOfTheSameName(t *testing.T) {
	for name, source := range sqliteSources(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			driver, dsn := source(filepath.Join(t.TempDir(), "election.db"))
			db, err := sql.Open(driver, dsn)
			require.NoError(t, err)
			t.Cleanup(func() { _ = db.Close() })
			db.SetMaxOpenConns(1)
			shadow := func() {
				_, err = db.Exec(`CREATE TEMPORARY TABLE election (id integer, leader_id text, record text, version bigint, election text, slot bigint)`)
				require.NoError(t, err)
				_, err = db.Exec(`INSERT INTO temp.election (id, leader_id, version) VALUES (2, 'a', 1)`)
				require.NoError(t, err)
			}
			shadow()
			storage := openSQL(t, db) // creates the table all the same
			require.NoError(t, storage.Update(t.Context(), &election.Record{LeaderID: "b", Term: 1}, true))
			require.NoError(t, renewMember(storage, "b", 2))
			require.NoError(t, renewMember(storage.Election("other"), "b", 2))
			ran := false
			require.ErrorIs(t, storage.TxnWithLeaderLock(t.Context(), "a", func(*sql.Tx) error { ran = true; return nil }), election.ErrNotLeader)
			require.False(t, ran)
			record, err := storage.Get(t.Context())
			require.NoError(t, err)
			require.Equal(t, "b", record.LeaderID)
			var rows int
			require.NoError(t, db.QueryRow(`SELECT COUNT(*) FROM temp.election`).Scan(&rows))
			require.Equal(t, 1, rows)
			require.NoError(t, db.QueryRow(`SELECT COUNT(*) FROM main.election`).Scan(&rows))
			require.Equal(t, 4, rows)
		})
	}
}

// A write that waits for the lock heeds its ctx, however long the DSN lets SQLite wait.
func TestWaitsHeedTheirContextWhateverTheDSN(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", sqldb.FileDSN(filepath.Join(t.TempDir(), "election.db"))+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(120000)")
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	storage := openSQL(t, db)
	require.NoError(t, renewMember(storage, "b", 2))
	lock, err := db.Conn(t.Context())
	require.NoError(t, err)
	_, err = lock.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	result := make(chan error, 1)
	go func() { result <- renewMember(storage, "c", 1) }()
	select {
	case err = <-result:
	case <-time.After(30 * time.Second):
	}
	_, rollbackErr := lock.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, errors.Join(rollbackErr, lock.Close()))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

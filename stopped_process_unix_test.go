//go:build unix

package election_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

const (
	memberDriver = "ELECTION_TEST_MEMBER_DRIVER"
	memberDSN    = "ELECTION_TEST_MEMBER_DSN"
	memberGuard  = "ELECTION_TEST_MEMBER_GUARD_TIMEOUT"
)

// TestMemberProcess is not a test of its own: it is the process that others
// stop and kill. It leads, opens a guarded transaction, says so, and waits for a
// line before it commits.
func TestMemberProcess(t *testing.T) {
	if os.Getenv(memberDSN) == "" {
		t.Skip("run by other tests as a process of its own")
	}
	db, err := sql.Open(os.Getenv(memberDriver), os.Getenv(memberDSN))
	require.NoError(t, err)
	storage, err := election.NewSQLStorage(db, "")
	require.NoError(t, err)
	if timeout, err := time.ParseDuration(os.Getenv(memberGuard)); err == nil {
		storage = storage.WithGuardTimeout(timeout)
	}
	input := bufio.NewReader(os.Stdin)
	cfg := election.Config{ID: "process", Storage: storage, LeaderCallback: func(ctx context.Context) error {
		err := storage.TxnWithLeaderLock(context.WithoutCancel(ctx), "process", func(tx *sql.Tx) error {
			if _, err := tx.Exec(`INSERT INTO ledger VALUES ('process')`); err != nil {
				return err
			}
			fmt.Println("in the transaction")
			_, err := input.ReadString('\n')
			return err
		})
		fmt.Println("transaction:", err)
		<-ctx.Done()
		return nil
	}}
	quickLease(&cfg)
	e, err := election.NewElector(cfg)
	require.NoError(t, err)
	_ = e.RunElection(t.Context())
}

// A leader that is stopped inside a guarded transaction holds SQLite's one write
// lock. As documented: nobody else leads, and nobody overlaps, until it goes on
// or dies; then the election goes on.
func TestTrap04StoppedInsideAGuardedTransaction(t *testing.T) {
	for _, end := range []string{"goes on", "dies"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			db := dbtest.SQLite(t)
			handle := db.Open(t)
			dbtest.Exec(t, handle, `CREATE TABLE ledger (writer TEXT)`)

			process, input, lines := startMember(t, db, 0)
			waitForLine(t, lines, "in the transaction")

			require.NoError(t, process.Process.Signal(syscall.SIGSTOP))
			storage, err := election.NewSQLStorage(handle, "")
			require.NoError(t, err)
			p := newParty(t)
			b := p.join("b", storage, quickLease)
			select {
			case <-time.After(3 * time.Second): // three leases
			case <-b.done:
			}
			require.False(t, b.IsLeader(), "the stopped process holds the file's write lock")
			require.Error(t, b.Status().Err)

			if end == "dies" {
				require.NoError(t, process.Process.Kill())
				waitFor(t, 10*time.Second, "b leads", b.IsLeader)
				require.Zero(t, dbtest.Count(t, handle, "ledger"), "what the dead process had begun is rolled back")
				return
			}
			require.NoError(t, process.Process.Signal(syscall.SIGCONT))
			_, err = io.WriteString(input, "commit\n")
			require.NoError(t, err)
			waitForLine(t, lines, "transaction: <nil>")
			require.Equal(t, 1, dbtest.Count(t, handle, "ledger"), "nobody had taken over: it still was the recorded leader")
			require.NoError(t, process.Process.Kill())
			waitFor(t, 10*time.Second, "b leads", b.IsLeader)
		})
	}
}

// A server bounds the guarded transaction of a leader that is stopped: it ends
// after its guard timeout, nothing of it is committed, and another leads.
func TestTrap04StoppedInsideAGuardedTransactionOnAServer(t *testing.T) {
	t.Parallel()
	const guardTimeout = 2 * time.Second
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		handle := db.Open(t)
		dbtest.Exec(t, handle, `CREATE TABLE ledger (writer varchar(40))`)
		process, input, lines := startMember(t, db, guardTimeout)
		waitForLine(t, lines, "in the transaction")
		require.NoError(t, process.Process.Signal(syscall.SIGSTOP))
		stopped := time.Now()

		storage, err := election.NewSQLStorage(handle, "")
		require.NoError(t, err)
		p := newParty(t)
		b := p.join("b", storage, quickLease)
		waitFor(t, 30*time.Second, "b leads", b.IsLeader)
		const lease, slack = time.Second, 2 * time.Second
		require.Less(t, time.Since(stopped), guardTimeout+lease+slack)
		require.Zero(t, dbtest.Count(t, handle, "ledger"))

		require.NoError(t, process.Process.Signal(syscall.SIGCONT))
		_, _ = io.WriteString(input, "commit\n") // it may have ended by itself
		require.NotEqual(t, "transaction: <nil>", waitForLine(t, lines, "transaction: "))
		require.Zero(t, dbtest.Count(t, handle, "ledger"))
		waitFor(t, 30*time.Second, "b leads, or does again on a busy machine", b.IsLeader)
	})
}

// startMember starts TestMemberProcess on db, until the test ends.
func startMember(t *testing.T, db *dbtest.Database, guardTimeout time.Duration) (*exec.Cmd, io.Writer, <-chan string) {
	t.Helper()
	process := exec.Command(os.Args[0], "-test.run=^TestMemberProcess$", "-test.timeout=60s")
	process.Env = append(os.Environ(), memberDriver+"="+db.Driver, memberDSN+"="+db.DSN)
	if guardTimeout > 0 {
		process.Env = append(process.Env, memberGuard+"="+guardTimeout.String())
	}
	input, err := process.StdinPipe()
	require.NoError(t, err)
	output, err := process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, process.Start())
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	return process, input, linesOf(output)
}

// linesOf sends r's lines until its end.
func linesOf(r io.Reader) <-chan string {
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(r); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return lines
}

// waitForLine returns the next line that begins with want.
func waitForLine(t *testing.T, lines <-chan string, want string) string {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-lines:
			if ok && strings.HasPrefix(line, want) {
				return line
			}
			require.True(t, ok, "the process ended before it said %q", want)
		case <-deadline:
			require.FailNow(t, "the process did not say "+want)
		}
	}
}

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
)

func quickLease(c *election.Config) {
	c.LeaseDuration, c.RenewInterval, c.RenewDeadline = time.Second, 100*time.Millisecond, 700*time.Millisecond
}

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

			process := exec.Command(os.Args[0], "-test.run=^TestMemberProcess$", "-test.timeout=60s")
			process.Env = append(os.Environ(), memberDriver+"="+db.Driver, memberDSN+"="+db.DSN)
			input, err := process.StdinPipe()
			require.NoError(t, err)
			output, err := process.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, process.Start())
			lines := linesOf(output)
			t.Cleanup(func() {
				_ = process.Process.Kill()
				_ = process.Wait()
			})
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

func waitForLine(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-lines:
			if line == want {
				return
			}
			require.True(t, ok, "the process ended before it said %q", want)
		case <-deadline:
			require.FailNow(t, "the process did not say "+want)
		}
	}
}

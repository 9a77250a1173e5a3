//go:build unix

package dbtest_test

import (
	"bufio"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

const serverProcess = "ELECTION_TEST_SERVER_PROCESS"

// TestServerProcess is not a test of its own: it is a test binary with servers,
// for another test to kill.
func TestServerProcess(t *testing.T) {
	if os.Getenv(serverProcess) == "" {
		t.Skip("run by another test as a process of its own")
	}
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		require.NoError(t, db.Open(t).Ping())
		fmt.Println("server", db.Driver, db.DSN)
		select {} // until it is killed
	})
}

// requireGone waits until nothing answers any more.
func requireGone(t *testing.T, driver, dsn string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	deadline := time.After(30 * time.Second)
	for db.Ping() == nil {
		select {
		case <-deadline:
			require.FailNow(t, "the server still answers: "+dsn)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// A test binary that is killed takes its servers with it.
func TestServerDoesNotOutliveItsTests(t *testing.T) {
	t.Parallel()
	process := exec.Command(os.Args[0], "-test.run=^TestServerProcess$", "-test.timeout=60s", "-test.parallel=10")
	process.Env = append(os.Environ(), serverProcess+"=1", "ELECTION_TEST_MYSQL=", "ELECTION_TEST_POSTGRES=")
	output, err := process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, process.Start())
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	servers := 0
	for lines := bufio.NewScanner(output); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) != 3 || words[0] != "server" {
			continue
		}
		servers++
		require.NoError(t, process.Process.Kill())
		requireGone(t, words[1], words[2])
	}
	if servers == 0 {
		t.Skip("this machine has no server to start")
	}
}

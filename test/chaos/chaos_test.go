//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// stageCommand makes the test binary the whole program, for tests that end it.
const stageCommand = "chaos"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case memberCommand:
			main()
		case stageCommand:
			os.Args = os.Args[1:]
			main()
		}
	}
	os.Exit(m.Run())
}

// missing says why engines are not there.
var missing = sync.OnceValue(func() map[string]error {
	missing := map[string]error{}
	for _, engine := range []string{mysqlEngine, postgresEngine} {
		server, err := dbtest.StartServer(engine)
		if err == nil {
			err = server.Close()
		}
		missing[engine] = err
	}
	return missing
})

// engines returns those that are there, and fails if a required one is not. A server
// that others have started is of no use here.
func engines(t *testing.T) (there []string) {
	t.Helper()
	required := strings.Split(os.Getenv("ELECTION_TEST_REQUIRE"), ",")
	for _, engine := range allEngines {
		err := missing()[engine]
		if err == nil {
			there = append(there, engine)
			continue
		}
		if os.Getenv("ELECTION_TEST_"+strings.ToUpper(engine)) == "" {
			require.NotContains(t, required, engine, "%s is required: %v", engine, err)
		}
		t.Logf("no %s: %v", engine, err)
	}
	return there
}

// output is where a test's run reports to.
type output struct{ t *testing.T }

func (o output) Write(text []byte) (int, error) {
	o.t.Log(strings.TrimRight(string(text), "\n"))
	return len(text), nil
}

// The short form of what `make chaos` does for longer.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute on each engine")
	}
	o, err := parse([]string{"-duration", "22s", "-members", "3"})
	require.NoError(t, err)
	o.engines = engines(t)
	results, err := run(t.Context(), output{t}, o)
	require.NoError(t, err)
	require.Len(t, results, len(o.engines))
	refusals := 0
	for _, r := range results {
		require.GreaterOrEqual(t, len(r.faults), 3, r.engine)
		require.Greater(t, r.terms, 1, r.engine)
		require.Greater(t, r.Entries, 30, r.engine)
		refusals += r.Refusals
	}
	require.Positive(t, refusals, "no guarded transaction was late: in half a minute that may be so on one engine")
}

// A verdict that cannot find anything proves nothing: without the guard the same
// run must find entries outside of their term, on every engine.
func TestChaosWithoutTheGuard(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds on each engine")
	}
	t.Setenv("TMPDIR", t.TempDir()) // the logs of a run that found something are kept
	// A busy machine has but one reign in 5 s.
	o, err := parse([]string{"-duration", "15s", "-members", "3", "-break", "guard"})
	require.NoError(t, err)
	o.engines = engines(t)
	results, err := run(t.Context(), output{t}, o)
	require.ErrorIs(t, err, errBroken)
	for _, r := range results {
		require.NoError(t, r.err, r.engine)
		require.NotEmpty(t, r.Against(inItsReign), r.engine)
	}
}

const mark = "ELECTION_CHAOS_TEST_MARK"

// Whoever ends a run, and however: nothing that it has started is left.
func TestNothingIsLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("starts databases")
	}
	there := strings.Join(engines(t), ",")
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			dir, marked := t.TempDir(), mark+"="+t.Name()
			stage := exec.Command(os.Args[0], stageCommand, "-duration", "1m", "-members", "2", "-engines", there)
			stage.Env = append(os.Environ(), marked, "TMPDIR="+dir)
			stdout, err := stage.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, stage.Start())
			t.Cleanup(func() { _ = stage.Process.Kill() })
			await(t, bufio.NewScanner(stdout), strings.Count(there, ",")+1)
			require.Greater(t, len(processes(t, marked)), 4)

			require.NoError(t, stage.Process.Signal(signal))
			require.Error(t, stage.Wait())
			deadline := time.After(30 * time.Second)
			for len(processes(t, marked)) > 0 || isMounted(t, dir) {
				select {
				case <-deadline:
					require.Empty(t, processes(t, marked))
					require.False(t, isMounted(t, dir))
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
}

// await reads until so many engines have had a fault.
func await(t *testing.T, lines *bufio.Scanner, engines int) {
	t.Helper()
	var seen []string
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 4 && words[4] == "faults:" && !slices.Contains(seen, words[2]) {
			seen = append(seen, words[2])
		}
		if len(seen) == engines {
			return
		}
	}
	require.FailNow(t, "the run has ended too early")
}

// processes are those that have inherited an environment variable, but for those
// that only wait to be reaped.
func processes(t *testing.T, variable string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	for _, path := range all {
		environment, err := os.ReadFile(path)
		if err == nil && bytes.Contains(environment, []byte(variable+"\x00")) {
			command, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			found = append(found, fmt.Sprintf("%s %q", path, command))
		}
	}
	return found
}

func isMounted(t *testing.T, under string) bool {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	require.NoError(t, err)
	return strings.Contains(string(mounts), " "+under+"/")
}

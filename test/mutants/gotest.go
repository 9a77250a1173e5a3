package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// event is one line of go test -json.
type event struct {
	Action      string
	Test        string
	Output      string
	FailedBuild string
}

// outcome is what one run of go test came to.
type outcome int

const (
	passed     outcome = iota
	failed             // a test that was running
	timedOut           // -timeout ended it
	noBuild            // it did not compile
	noTests            // no test has that name
	allSkipped         // every test skipped itself
	broken             // it failed before or beside the tests, say in TestMain
)

// goTest runs the target in the workspace's tree, without go vet, which would
// refuse some mutants before the test could.
func goTest(ctx context.Context, w *workspace, t target, timeout time.Duration) (outcome, string, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-vet=off",
		"-timeout="+timeout.String(), "-run="+t.pattern, ".")
	cmd.Dir = filepath.Join(w.tree(), filepath.FromSlash(t.dir))
	cmd.Env = append([]string{"SEEDS=1000"}, append(os.Environ(), "TMPDIR="+w.temp())...) // the last one counts
	ownGroup(cmd)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	endGroup(cmd)
	if ctx.Err() != nil {
		return broken, "", ctx.Err()
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return broken, "", err // no such directory, no go command
	}
	o, text := classify(string(out), err == nil)
	return o, text, nil
}

// classify reads the output of go test -json. Lines that are no JSON come from
// the go command itself; they are part of the text, like all output.
func classify(out string, ok bool) (outcome, string) {
	var text strings.Builder
	run := testRun{state: map[string]string{}}
	for line := range strings.Lines(out) {
		var e event
		if json.Unmarshal([]byte(line), &e) != nil {
			text.WriteString(line)
			continue
		}
		text.WriteString(e.Output)
		run.see(e)
	}
	return run.outcome(ok), text.String()
}

// testRun gathers the events of one run.
type testRun struct {
	state   map[string]string // of each test: run, pass, fail or skip
	noBuild bool
	timeout bool
}

func (r *testRun) see(e event) {
	r.noBuild = r.noBuild || e.Action == "build-fail" || e.FailedBuild != ""
	r.timeout = r.timeout || strings.HasPrefix(e.Output, "panic: test timed out after ")
	if e.Test == "" {
		return
	}
	switch e.Action {
	case "run", "pass", "fail", "skip":
		r.state[e.Test] = e.Action
	}
}

func (r *testRun) outcome(ok bool) outcome {
	counts := map[string]int{}
	for test, state := range r.state {
		if state == "run" || state == "fail" || !r.isParent(test) {
			counts[state]++
		}
	}
	switch {
	case r.noBuild:
		return noBuild
	case r.timeout:
		return timedOut
	// A test that never ended took the process down with it.
	case !ok && counts["fail"]+counts["run"] > 0:
		return failed
	case !ok:
		return broken
	case len(r.state) == 0:
		return noTests
	case counts["pass"] == 0:
		return allSkipped
	}
	return passed
}

// isParent holds for a test with subtests: it passes also when all of them
// were skipped.
func (r *testRun) isParent(test string) bool {
	for other := range r.state {
		if strings.HasPrefix(other, test+"/") {
			return true
		}
	}
	return false
}

package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// program returns the program, ready to run with args over the database that dsn
// names in the environment, and the directory that it takes for temporary files.
func program(t *testing.T, dsn string, args ...string) (command *exec.Cmd, temp string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temp = t.TempDir()
	command = exec.Command(self, args...)
	command.Env = append(os.Environ(), programVariable+"=1", "TMPDIR="+temp, "TMP="+temp, dsnVariable+"="+dsn)
	return command, temp
}

// watch runs a command to its end and calls see for every line of its output.
func watch(t *testing.T, command *exec.Cmd, see func(line string)) (out, stderr string) {
	t.Helper()
	return watchFrom(t, command, func() {}, see)
}

// watchFrom also calls begun, when the command has been started.
func watchFrom(t *testing.T, command *exec.Cmd, begun func(), see func(line string)) (out, stderr string) {
	t.Helper()
	var said, complaints strings.Builder
	command.Stderr = &complaints
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	begun()
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		see(lines.Text())
	}
	if err := command.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return said.String(), complaints.String()
}

// play runs the demo and returns its exit status and output, which must leave
// nothing behind.
func play(t *testing.T, dsn string, args ...string) (int, string) {
	t.Helper()
	command, temp := program(t, dsn, append([]string{"demo"}, args...)...)
	out, stderr := watch(t, command, onlooker(t))
	checkEmpty(t, temp)
	checkSecret(t, out+stderr)
	return command.ProcessState.ExitCode(), out + stderr
}

func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs processes against real leases")
	}
	t.Parallel()
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("left behind: %s", entry.Name())
	}
}

func TestDemoHolds(t *testing.T) {
	slow(t)
	status, out := play(t, "")
	checkHolds(t, status, out)
	if strings.Contains(out, "\x1b") {
		t.Error("the output is no terminal and got escape sequences")
	}
}

func checkHolds(t *testing.T, status int, out string) {
	t.Helper()
	if status != exitOK || strings.Contains(out, "FAIL") || strings.Count(out, "  ok    ") != 6 {
		t.Errorf("exit status %d:\n%s", status, out)
	}
}

func TestDemoFindsBrokenGuard(t *testing.T) {
	slow(t)
	if runtime.GOOS == "windows" {
		t.Skip("no process can be frozen here, so nobody writes late")
	}
	status, out := play(t, "", "--break=guard")
	checkFinds(t, status, out)
}

// checkFinds checks that the verdict found the broken guard, and nothing else.
func checkFinds(t *testing.T, status int, out string) {
	t.Helper()
	if status != exitFailed {
		t.Errorf("exit status %d, want %d", status, exitFailed)
	}
	for _, want := range []string{
		"FAIL  every ledger entry was written by a leader, in its term", "it stands behind an entry of term",
		"FAIL  every write of a woken leader was refused", "was refused nothing",
		"  ok    no two leader callbacks overlapped",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestDemoIsInterrupted(t *testing.T) {
	slow(t)
	for _, c := range []struct {
		args []string
		kept bool
	}{{[]string{"demo"}, false}, {[]string{"demo", "--keep"}, true}} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			command, temp := program(t, "", c.args...)
			out := interrupt(t, command)
			if !c.kept {
				checkEmpty(t, temp)
				return
			}
			if _, err := os.Stat(filepath.Join(keptDir(out), "stage.log")); err != nil {
				t.Errorf("nothing was kept: %v", err)
			}
		})
	}
}

// keptDir is the directory that the demo says it has left.
func keptDir(out string) string {
	for line := range strings.Lines(out) {
		if kept, ok := strings.CutPrefix(line, "kept: "); ok && !strings.HasPrefix(kept, "tables ") {
			return strings.TrimSpace(kept)
		}
	}
	return ""
}

// interrupt runs a demo and interrupts it as soon as somebody leads.
func interrupt(t *testing.T, command *exec.Cmd) (out string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no process can be interrupted here")
	}
	interrupted := false
	out, stderr := watch(t, command, func(line string) {
		if !interrupted && strings.Contains(line, "leads in term") {
			interrupted = true
			if err := command.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		}
	})
	if status := command.ProcessState.ExitCode(); status != 130 || !strings.Contains(stderr, "ended by signal: interrupt") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	return out
}

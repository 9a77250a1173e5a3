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

// program returns the program, ready to run with args, and the directory that it
// takes for temporary files.
func program(t *testing.T, args ...string) (command *exec.Cmd, temp string) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs processes against real leases")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temp = t.TempDir()
	command = exec.Command(self, args...)
	command.Env = append(os.Environ(), programVariable+"=1", "TMPDIR="+temp, "TMP="+temp)
	return command, temp
}

// play runs the demo and returns its exit status and output, which must leave
// nothing behind.
func play(t *testing.T, args ...string) (int, string) {
	t.Helper()
	command, temp := program(t, append([]string{"demo"}, args...)...)
	out, err := command.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	checkEmpty(t, temp)
	return command.ProcessState.ExitCode(), string(out)
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
	status, out := play(t)
	if status != exitOK || strings.Contains(out, "FAIL") || strings.Count(out, "  ok    ") != 6 {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	if strings.Contains(out, "\x1b") {
		t.Error("the output is no terminal and got escape sequences")
	}
}

func TestDemoFindsBrokenGuard(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no process can be frozen here, so nobody writes late")
	}
	status, out := play(t, "--break=guard")
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
	for _, c := range []struct {
		args []string
		kept bool
	}{{[]string{"demo"}, false}, {[]string{"demo", "--keep"}, true}} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			command, temp := program(t, c.args...)
			out, stderr := interrupt(t, command)
			if status := command.ProcessState.ExitCode(); status != 130 || !strings.Contains(stderr, "ended by signal: interrupt") {
				t.Errorf("exit status %d: %s", status, stderr)
			}
			if !c.kept {
				checkEmpty(t, temp)
				return
			}
			_, dir, _ := strings.Cut(out, "kept: ")
			if _, err := os.Stat(filepath.Join(strings.TrimSpace(dir), "stage.jsonl")); err != nil {
				t.Errorf("nothing was kept: %v", err)
			}
		})
	}
}

// interrupt runs a demo and interrupts it as soon as somebody leads.
func interrupt(t *testing.T, command *exec.Cmd) (out, stderr string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no process can be interrupted here")
	}
	var said, complaints strings.Builder
	command.Stderr = &complaints
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	interrupted := false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if !interrupted && strings.Contains(lines.Text(), "leads in term") {
			interrupted = true
			if err := command.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = command.Wait() // the exit status is for the caller to look at
	return said.String(), complaints.String()
}

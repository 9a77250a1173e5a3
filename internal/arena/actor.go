package arena

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Actor is the stage's hold on a member's process. One goroutine owns it.
type Actor struct {
	Process
	command *exec.Cmd
	stdin   io.WriteCloser
	stderr  string // path
	ended   chan struct{}
	err     error // of an ended process
}

// Start runs this program again, with arguments that make it call RunMember. What
// the process writes to standard output goes to stdout, or nowhere if it is nil.
func Start(s Settings, stdout *os.File, arguments ...string) (*Actor, error) {
	a := &Actor{Process: s.Process, stderr: s.log() + ".stderr", ended: make(chan struct{})}
	if err := a.start(stdout, arguments); err != nil {
		return nil, fmt.Errorf("start %s: %w", a, err)
	}
	_ = json.NewEncoder(a.stdin).Encode(s) // fails if the process has ended, which is noticed
	return a, nil
}

func (a *Actor) start(stdout *os.File, arguments []string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	// A file and not a pipe: what a dying process said last is not lost.
	stderr, err := os.OpenFile(a.stderr, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer stderr.Close()
	a.command = exec.Command(program, arguments...)
	a.command.SysProcAttr = detached()
	a.command.Stderr = stderr
	if stdout != nil {
		a.command.Stdout = stdout
	}
	if a.stdin, err = a.command.StdinPipe(); err != nil {
		return err
	}
	if err := a.command.Start(); err != nil {
		return err
	}
	go func() {
		a.err = a.command.Wait()
		close(a.ended)
	}()
	return nil
}

// PID is the number that the system knows the process by.
func (a *Actor) PID() int { return a.command.Process.Pid }

// Say gives the process a cue.
func (a *Actor) Say(c Cue) error {
	if _, err := fmt.Fprintln(a.stdin, c); err != nil {
		return fmt.Errorf("tell %s to %s: %w", a, c.Verb, err)
	}
	return nil
}

// Dismiss asks the process to end.
func (a *Actor) Dismiss() { _ = a.stdin.Close() }

// Signal sends the process a signal.
func (a *Actor) Signal(signal os.Signal) error {
	if err := a.command.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %v to %s: %w", signal, a, err)
	}
	return nil
}

// Kill ends the process at once, and returns when it has ended; with an error if it
// had ended before.
func (a *Actor) Kill() error {
	err := a.command.Process.Kill()
	<-a.ended
	if err != nil {
		return fmt.Errorf("kill %s: %w", a, err)
	}
	return nil
}

// Ended is closed when the process has ended.
func (a *Actor) Ended() <-chan struct{} { return a.ended }

// Err waits for the end of the process and says how it ended: nil is status 0.
func (a *Actor) Err() error {
	<-a.ended
	return a.err
}

// HasBegun reports whether the process has come so far that it heeds a signal: to its journal.
func (a *Actor) HasBegun() bool {
	_, err := os.Stat(strings.TrimSuffix(a.stderr, ".stderr"))
	return err == nil
}

// LastWords is the end of what the process wrote to standard error.
func (a *Actor) LastWords() string {
	const most = 2 << 10
	text, err := os.ReadFile(a.stderr)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

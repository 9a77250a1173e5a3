package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// MemberCommand is the hidden subcommand under which the program runs itself as
// a member, with the arguments that RunMember takes.
const MemberCommand = "demo-member"

// actor is the stage's hold on a member's process.
type actor struct {
	process
	command *exec.Cmd
	stdin   io.WriteCloser
	stderr  *os.File
}

// message is what the stage hears from or about an actor: a report, or its end.
type message struct {
	from   *actor
	report report
	ended  bool
	err    error // of an ended process: how it ended; nil for status 0
}

// startActor starts a member's process. What it says, and then its end, goes to
// messages, which must be received from until the end has come.
func startActor(dir string, at venue, p process, messages chan<- message, extra ...string) (*actor, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p, err)
	}
	arguments := append([]string{MemberCommand, "-dir", dir, "-id", p.member, "-run", fmt.Sprint(p.run)}, extra...)
	a := &actor{process: p, command: exec.Command(program, arguments...)}
	a.command.SysProcAttr = detached()
	stdout, err := a.command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p, err)
	}
	if a.stdin, err = a.command.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p, err)
	}
	// A file and not a pipe: what a dying process said last is not lost.
	if a.stderr, err = os.Create(p.log(dir) + ".stderr"); err != nil {
		return nil, fmt.Errorf("start %s: %w", p, err)
	}
	a.command.Stderr = a.stderr
	if err := a.command.Start(); err != nil {
		a.stderr.Close()
		return nil, fmt.Errorf("start %s: %w", p, err)
	}
	go a.relay(stdout, messages)
	_, _ = io.WriteString(a.stdin, at.line()) // fails if the process has ended, which is heard of
	return a, nil
}

// relay passes on what the process says until it has ended.
func (a *actor) relay(stdout io.Reader, messages chan<- message) {
	for reports := json.NewDecoder(stdout); ; {
		var r report
		if reports.Decode(&r) != nil {
			break // the process has ended, or talks nonsense: its standard error says more
		}
		messages <- message{from: a, report: r}
	}
	_, _ = io.Copy(io.Discard, stdout)
	err := a.command.Wait()
	messages <- message{from: a, ended: true, err: err}
}

// say gives the process a cue.
func (a *actor) say(c cue) error {
	if _, err := fmt.Fprintln(a.stdin, c); err != nil {
		return fmt.Errorf("tell %s to %s: %w", a, c.verb, err)
	}
	return nil
}

// dismiss asks the process to end.
func (a *actor) dismiss() { _ = a.stdin.Close() }

// kill ends the process at once, and returns the moment from which it runs no
// more.
func (a *actor) kill() (time.Time, error) {
	if err := a.command.Process.Kill(); err != nil {
		return time.Time{}, fmt.Errorf("kill %s: %w", a, err)
	}
	return time.Now(), nil
}

// lastWords is the end of what the process wrote to standard error.
func (a *actor) lastWords() string {
	const most = 2 << 10
	text, err := os.ReadFile(a.stderr.Name())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

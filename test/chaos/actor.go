//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// actor is the stage's hold on a member's process.
type actor struct {
	life
	command *exec.Cmd
	stdin   io.WriteCloser
	ended   chan struct{} // closed when the process has ended
	err     error         // then: how; nil for status 0
}

// startActor starts a member's process. Its standard output and error are files:
// what a dying process said last is not lost, and no reader can slow it down.
func startActor(dir string, s settings) (*actor, error) {
	a := &actor{life: life{s.ID, s.Life}, ended: make(chan struct{})}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", a, err)
	}
	a.command = exec.Command(program, memberCommand)
	// A group of its own, so that what interrupts the stage does not reach it; but it
	// dies with the stage, even when it is stopped and cannot notice.
	a.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	path := filepath.Join(dir, fmt.Sprintf(memberLog, a))
	for name, out := range map[string]*io.Writer{path: &a.command.Stdout, path + ".stderr": &a.command.Stderr} {
		file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", a, err)
		}
		defer file.Close()
		*out = file
	}
	if a.stdin, err = a.command.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", a, err)
	}
	if err := a.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", a, err)
	}
	go func() {
		a.err = a.command.Wait()
		close(a.ended)
	}()
	_ = json.NewEncoder(a.stdin).Encode(s) // fails if the process has ended, which is noticed
	return a, nil
}

// say gives the process a cue.
func (a *actor) say(verb kind, argument string) error {
	_, err := fmt.Fprintln(a.stdin, verb, argument)
	return err
}

func (a *actor) signal(signal syscall.Signal) error {
	if err := a.command.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %v to %s: %w", signal, a, err)
	}
	return nil
}

// kill ends the process at once, and returns when it has ended.
func (a *actor) kill() {
	_ = a.command.Process.Kill() // it may have ended already
	<-a.ended
}

func (a *actor) hasEnded() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

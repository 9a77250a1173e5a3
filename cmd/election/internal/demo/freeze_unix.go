//go:build unix

package demo

import (
	"fmt"
	"syscall"
	"time"
)

const canFreeze = true

// freeze stops the process within whatever it is doing, and returns the moment
// from which it runs no more.
func (a *actor) freeze() (time.Time, error) {
	if err := a.command.Process.Signal(syscall.SIGSTOP); err != nil {
		return time.Time{}, fmt.Errorf("freeze %s: %w", a, err)
	}
	return time.Now(), nil
}

// thaw lets the process go on where it was stopped.
func (a *actor) thaw() error {
	if err := a.command.Process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("thaw %s: %w", a, err)
	}
	return nil
}

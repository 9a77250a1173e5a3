//go:build unix

package arena

import "syscall"

// CanFreeze reports whether this system can stop a process.
const CanFreeze = true

// Freeze stops the process within whatever it is doing. It runs no more when
// Freeze has returned.
func (a *Actor) Freeze() error { return a.Signal(syscall.SIGSTOP) }

// Thaw lets the process go on where it was stopped.
func (a *Actor) Thaw() error { return a.Signal(syscall.SIGCONT) }

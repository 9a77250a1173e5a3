//go:build unix && !linux

package arena

import "syscall"

// detached keeps a terminal's signals away from a member, whose end the stage
// decides on. In a process group of its own, a frozen member that the stage left
// behind is hung up by the kernel.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

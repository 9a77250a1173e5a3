package arena

import "syscall"

// detached keeps a terminal's signals away from a member, whose end the stage
// decides on. If the stage is killed its members die with it, even a frozen one
// that could not notice.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

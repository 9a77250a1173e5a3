package arena

import "syscall"

// detached keeps a console's Ctrl-C away from a member, whose end the stage
// decides on.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

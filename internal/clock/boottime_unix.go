//go:build linux || darwin

package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// boottime reads the clock that goes on while the machine sleeps. If the kernel refuses it,
// boottime returns 0.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(boottimeID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

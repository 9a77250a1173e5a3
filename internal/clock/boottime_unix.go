//go:build linux || darwin

package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// boottime reads the clock that goes on while the machine sleeps, or returns 0
// where the kernel refuses it.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(boottimeID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

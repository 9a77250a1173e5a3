package clock

import "golang.org/x/sys/unix"

// boottimeID counts sleep on darwin under this name; Go's own monotonic clock
// there is mach_absolute_time, which does not.
const boottimeID = unix.CLOCK_MONOTONIC

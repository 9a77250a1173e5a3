package clock

import "golang.org/x/sys/unix"

// boottimeID counts sleep; Go's own monotonic clock (CLOCK_MONOTONIC) does not.
const boottimeID = unix.CLOCK_BOOTTIME

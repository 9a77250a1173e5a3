//go:build !linux && !darwin

package clock

import "time"

// boottime returns 0, because this system has no such clock here. Only the wall clock notices that
// the machine slept.
func boottime() time.Duration { return 0 }

package election

import (
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// trust is the leader's half of the safety argument: how long it may believe in
// its leadership without hearing from the storage again.
//
// An acknowledged renewal was stored at some moment after it was sent, and no
// observer can have seen it earlier. Counting from the moment before it was sent,
// the leader's window of RenewDeadline therefore begins before every observer's
// window of LeaseDuration. Counting from the reply would not do: a reply may come
// arbitrarily late.
//
// The zero trust believes nothing.
type trust struct {
	start clock.Instant // read before the acknowledged renewal was sent
	limit time.Duration // RenewDeadline
}

// left is how much of the window remains, by whichever of the monotonic and
// the boot clock ran faster: a machine that slept must not resume as leader. At
// or below zero the leader steps down.
func (t trust) left(now clock.Instant) time.Duration {
	elapsed := now.Mono - t.start.Mono
	if now.Boot != 0 && t.start.Boot != 0 {
		elapsed = max(elapsed, now.Boot-t.start.Boot)
	}
	return t.limit - elapsed
}

// believes is the test of IsLeader. It must not cost a system call, so the
// wall clock stands in for the boot clock: it, too, jumps when a machine
// resumes. A forward step of the wall clock ends the belief early, which costs
// time and not safety; a backward step is caught by the monotonic part.
func (t trust) believes(now clock.Instant) bool {
	return now.Mono-t.start.Mono < t.limit && now.Wall-t.start.Wall < t.limit
}

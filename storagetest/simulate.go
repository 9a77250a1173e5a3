package storagetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/sim"
)

// Faults says how often a storage call goes wrong, and how. Shares are between 0 and 1. The zero
// value harms nothing. Reads of entries that are kept apart are never old.
type Faults struct {
	Delay         time.Duration // a call takes up to this on each way, most calls a small part of it
	Stale         float64       // share of the reads that return an old record
	Age           int           // how old such a record is at most, in versions
	Lag           time.Duration // how long ago such a record was replaced, at most; 0: no limit
	Refused       float64       // share of the calls that do nothing and fail
	Lost          float64       // share of the calls that do their work and then fail
	Stalled       float64       // share of the calls that are under way for up to Stall
	Stall         time.Duration
	IgnoreContext float64 // share of the stalled calls that ignore their ctx
	AppliedLate   float64 // share of the stalled writes that are applied although the caller gave up
}

// WithFaults returns a Storage that passes calls on to storage, with faults. It has the abilities
// that storage has; what a Watcher tells passes without faults. The faults are drawn from seed in
// the order of the calls. An old record is one that was read through the returned Storage before.
//
// Delays are slept for: use it in a testing/synctest bubble. A write that is applied late may be
// applied up to Delay + Stall after its call has returned, and its goroutine ends up to a Delay
// later.
func WithFaults(storage election.Storage, faults Faults, seed uint64) election.Storage {
	return sim.NewFaulty(storage, sim.Faults(faults), seed)
}

// Simulation says what Simulate runs. The zero value runs a hundred worlds of ten minutes with the
// kit's own storage and callback.
type Simulation struct {
	// Worlds is how many worlds are run, with the seeds from First on. Default 100.
	Worlds int
	First  uint64
	// Length is how long each world goes on before it comes to rest, in virtual time. Default 10
	// minutes.
	Length time.Duration
	// Members is how many take part. Default: 2 to 9, by the seed.
	Members int
	// Faults are the faults in every world. Default: drawn from the world's seed.
	Faults *Faults
	// Storage opens the election of one world. The function that it returns is called for each
	// process, and returns a new handle on the election. What is opened must be closed by
	// t.Cleanup. Default: a database of the kit's own, which can also lose its history.
	Storage func(t *testing.T) (handle func() election.Storage)
	// Callback is the LeaderCallback of every member. Its ctx carries the reign, and all time that
	// passes in it is virtual. Default: a callback that does its worst within the rules.
	Callback func(ctx context.Context, memberID string) error
	// StopWithin is how long Callback may take to return once its ctx has ended; 0, the default, is
	// no limit. If a callback overlaps with the next because it returned late, that is no violation
	// by itself.
	StopWithin time.Duration
}

// Simulate runs seeded worlds. In a world members' clocks disagree; the network delays calls, loses
// requests and replies, and answers with old records; there are crashes, restarts, partitions and
// hand-overs; machines stop and sleep. Each world is a testing/synctest bubble and takes a fraction
// of a second.
//
// A violation of docs/guarantees.md fails the test, with the seed and the tail of what happened. A
// goroutine that is left behind fails it too. A world that is run again with its seed repeats, if
// Storage and Callback use no chance of their own.
func Simulate(t *testing.T, s Simulation) {
	t.Helper()
	if s.Worlds <= 0 {
		s.Worlds = 100
	}
	if s.Length <= 0 {
		s.Length = 10 * time.Minute
	}
	options := sim.Options{
		Members: s.Members, Length: s.Length, Faults: (*sim.Faults)(s.Faults),
		Storage: s.Storage, Callback: s.Callback, StopWithin: s.StopWithin,
	}
	for n := range s.Worlds {
		seed := s.First + uint64(n)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			if v := sim.Run(t, seed, options); v.Violation != "" {
				t.Error(v)
			}
		})
	}
}

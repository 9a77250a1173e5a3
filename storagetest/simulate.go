package storagetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/sim"
)

// Faults says how often a storage call goes wrong, and how. Shares are between 0
// and 1; the zero value harms nothing.
type Faults struct {
	Delay    time.Duration // a call takes up to this on each way, most a small part of it
	Stale    float64       // share of the reads that return an old record
	Age      int           // of such a record at most, in versions
	Lag      time.Duration // and since when it may be out of date; 0: however long
	Refused  float64       // share of the calls that fail, and do nothing
	Lost     float64       // share of the calls that do their work, and then fail
	Stalled  float64       // share of the calls that are under way for up to Stall
	Stall    time.Duration
	Deaf     float64 // share of the stalled calls that ignore their ctx
	Straying float64 // share of the stalled writes that are applied although the caller gave up
}

// WithFaults returns storage with faults, each drawn from seed in the order of
// the calls. It sleeps for its delays: use it in a testing/synctest bubble. Calls
// that stray may go on after the last one has returned, for up to Delay + Stall.
func WithFaults(storage election.Storage, faults Faults, seed uint64) election.Storage {
	return sim.NewFaulty(storage, sim.Faults(faults), seed)
}

// Simulation says what Simulate runs. The zero value runs a hundred worlds of
// ten minutes with the kit's own storage and callback.
type Simulation struct {
	// Worlds is how many are run, with the seeds from First on. Default 100.
	Worlds int
	First  uint64
	// Length is for how long each goes on before it comes to rest. Default 10
	// minutes, of virtual time.
	Length time.Duration
	// Members is how many take part. Default: 2 to 9, by the seed.
	Members int
	// Faults are those of every world. Default: drawn from its seed.
	Faults *Faults
	// Storage opens one world's election, and returns a function that returns a
	// handle on it for one more process. What is opened must be closed by t.Cleanup.
	// Default: a database of the kit's own, which can also lose its history.
	Storage func(t *testing.T) (handle func() election.Storage)
	// Callback is the LeaderCallback of every member; its ctx carries the reign, and
	// all time that passes in it is virtual. Default: one that does its worst within
	// the rules.
	Callback func(ctx context.Context, memberID string) error
	// StopWithin is how long Callback may take to return once its ctx has ended.
	// Default: however long; but two that overlap for that reason are no violation.
	StopWithin time.Duration
}

// Simulate runs seeded worlds: members whose clocks disagree, a network that
// loses, delays and repeats, crashes, restarts, partitions, hand-overs, machines
// that stop and sleep. Each is a testing/synctest bubble and takes a fraction of a
// second. A violation of docs/guarantees.md fails the test, with the seed and the
// tail of what happened; so does a goroutine that is left behind.
//
// A world repeats when it is run again with its seed, if Storage and Callback
// take no chances of their own.
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

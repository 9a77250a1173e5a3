package sim

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// setting reads a number from the environment, so that make can run more worlds
// than a test does by itself.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, text, err)
	}
	return n
}

// eachSeed runs worlds on two goroutines, up to the first violation.
func eachSeed(t *testing.T, first, seeds uint64, run func(t *testing.T, seed uint64) Verdict) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // small heaps: collect less often
	var next, done, violated atomic.Uint64
	var sum [6]atomic.Int64
	start := time.Now()
	t.Run("worlds", func(t *testing.T) {
		for worker := range 2 {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for violated.Load() == 0 {
					n := next.Add(1) - 1
					if n >= seeds {
						return
					}
					v := run(t, first+n)
					for i, count := range []int{v.Acquisitions, v.Callbacks, v.Entries, v.Refusals, v.Overlaps, v.Clones} {
						sum[i].Add(int64(count))
					}
					if done := done.Add(1); done%1000 == 0 {
						t.Logf("%d seeds in %v", done, time.Since(start).Round(time.Second))
					}
					if v.Violation != "" {
						violated.Add(1)
						t.Errorf("violation after %d seeds\n%v", n+1, v)
					}
				}
			})
		}
	})
	t.Logf("%d seeds from %d on, %d violations: %d acquisitions, %d callbacks, %d guarded entries, %d refused, %d overlaps outside of G2's assumptions, %d clones; %v",
		done.Load(), first, violated.Load(), sum[0].Load(), sum[1].Load(), sum[2].Load(), sum[3].Load(), sum[4].Load(), sum[5].Load(),
		time.Since(start).Round(100*time.Millisecond))
}

// worlds is how many a test runs, unless it is told.
func worlds(t *testing.T) uint64 {
	t.Helper()
	if raceEnabled {
		return setting(t, "SEEDS", 10)
	}
	return setting(t, "SEEDS", 100)
}

// G1, G2, G3 and G4 hold, whatever happens. (Trap 15: machines whose clocks step
// and drift, up to the whole of G2's budget, and leases of any length.)
func TestWorlds(t *testing.T) {
	minutes := setting(t, "MINUTES", 60)
	eachSeed(t, setting(t, "SEED", 1), worlds(t), func(t *testing.T, seed uint64) Verdict {
		return Run(t, seed, Options{Members: 3 + int(seed%3), Length: time.Duration(minutes) * time.Minute})
	})
}

func TestLargerWorlds(t *testing.T) {
	eachSeed(t, 1<<32, max(1, worlds(t)/10), func(t *testing.T, seed uint64) Verdict {
		return Run(t, seed, Options{Members: 2 + int(seed%8)})
	})
}

// What happens in a world follows from its seed alone.
func TestTracesRepeat(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector shuffles goroutines that share an instant")
	}
	eachSeed(t, 1, worlds(t)/2, func(t *testing.T, seed uint64) Verdict {
		options := Options{Length: 10 * time.Minute}
		first, again := Run(t, seed, options), Run(t, seed, options)
		if again.Trace != first.Trace {
			t.Errorf("seed %d: two runs have the traces %x and %x", seed, first.Trace, again.Trace)
		}
		return first
	})
}

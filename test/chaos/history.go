//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sqlelect/election/internal/arena"
)

// What the stage writes down besides.
const (
	clocks   arena.What = "clocks"   // Wall, at the moment of this line
	started  arena.What = "started"  // a process
	struck   arena.What = "struck"   // a fault began
	healed   arena.What = "healed"   // it is over, as far as the stage can tell
	went     arena.What = "went"     // the election went on: an entry was committed after all faults were healed
	stuck    arena.What = "stuck"    // it did not
	deserted arena.What = "deserted" // a process ended, or did not end, other than it should
)

// history is all the evidence of a run.
type history struct {
	arena.History
	changes []change // of the leader row, by number
}

func readHistory(ctx context.Context, dir string, l *arena.Ledger) (h history, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if h.History, err = arena.ReadHistory(ctx, dir, l); err != nil {
		return h, err
	}
	h.changes, err = readChanges(ctx, l)
	return h, err
}

// frozenIn returns for how long the stage had frozen a process in s: on SQLite it
// may have stopped within a write, and with it the election.
func (h history) frozenIn(s arena.Span) (total time.Duration) {
	open := map[arena.Process]int64{}
	for _, l := range h.Stage {
		switch l.What {
		case arena.Frozen:
			open[l.Process()] = l.At
		case arena.Thawed:
			total += max(0, arena.Span{From: max(s.From, open[l.Process()]), To: min(s.To, l.At)}.Length())
		}
	}
	return total
}

// outages are the times in which nobody could be elected.
func (h history) outages() (outages []arena.Span) {
	open := map[string]int64{}
	for _, l := range h.Stage {
		if !natureOf(kind(l.Fault)).outage {
			continue
		}
		switch l.What {
		case struck:
			open[l.Fault] = l.At
		case healed:
			outages = append(outages, arena.Span{From: open[l.Fault], To: l.At})
			delete(open, l.Fault)
		}
	}
	for _, from := range open {
		outages = append(outages, arena.Span{From: from, To: arena.Never})
	}
	return outages
}

// wallStep is by how much the wall clock may have moved against the boot clock.
const wallStep = 50 * time.Millisecond

// wall returns what the wall clock is ahead of the boot clock. The databases'
// moments can only be compared while that stays the same.
func (h history) wall() (ahead int64, err error) {
	var seen []int64
	for _, l := range h.Stage {
		if l.What == clocks {
			seen = append(seen, l.Wall-l.At)
		}
	}
	switch {
	case len(seen) == 0:
		return 0, fmt.Errorf("the stage has not compared the clocks")
	case slices.Max(seen)-slices.Min(seen) > int64(wallStep):
		return 0, fmt.Errorf("the wall clock was set by %v", time.Duration(slices.Max(seen)-slices.Min(seen)))
	}
	return seen[0], nil
}

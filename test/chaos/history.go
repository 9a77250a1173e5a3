//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// history is all the evidence of a run.
type history struct {
	ledger  []entry // by number
	members []line  // the members' logs, each in order
	stage   []line
}

func readHistory(ctx context.Context, dir string, l *ledger) (h history, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if h.ledger, err = l.entries(ctx); err != nil {
		return h, err
	}
	h.stage, h.members, err = readLogs(dir)
	return h, err
}

// never is later than all that happens.
const never = math.MaxInt64

// span is a time in which something was so.
type span struct{ from, to int64 }

func (s span) length() time.Duration { return time.Duration(s.to - s.from) }

func (s span) meets(other span) bool { return s.from < other.to && other.from < s.to }

// deaths are the moments at which processes were killed.
func (h history) deaths() map[life]int64 {
	deaths := map[life]int64{}
	for _, l := range h.stage {
		if l.What == killed {
			deaths[l.life()] = l.At
		}
	}
	return deaths
}

// stops are the times in which processes did not run: as the stage knows, which
// stopped them, and as they know themselves.
func (h history) stops() map[life][]span {
	stops := map[life][]span{}
	for _, l := range h.stage {
		at := stops[l.life()]
		switch {
		case l.What == stopped:
			stops[l.life()] = append(at, span{l.At, never})
		case l.What == continued && len(at) > 0:
			at[len(at)-1].to = l.At
		}
	}
	for _, l := range h.members {
		if l.What == stalled {
			stops[l.life()] = append(stops[l.life()], span{l.At - l.For, l.At})
		}
	}
	return stops
}

// stoppedIn returns for how long the stage had stopped a process in s: on SQLite it
// may have stopped within a write, and with it the election.
func (h history) stoppedIn(s span) (total time.Duration) {
	open := map[life]int64{}
	for _, l := range h.stage {
		switch l.What {
		case stopped:
			open[l.life()] = l.At
		case continued:
			total += max(0, span{max(s.from, open[l.life()]), min(s.to, l.At)}.length())
		}
	}
	return total
}

// outages are the times in which nobody could be elected.
func (h history) outages() (outages []span) {
	open := map[kind]int64{}
	for _, l := range h.stage {
		if !natureOf(l.Fault).outage {
			continue
		}
		switch l.What {
		case struck:
			open[l.Fault] = l.At
		case healed:
			outages = append(outages, span{open[l.Fault], l.At})
			delete(open, l.Fault)
		}
	}
	for _, from := range open {
		outages = append(outages, span{from, never})
	}
	return outages
}

// wallStep is by how much the wall clock may have moved against the boot clock.
const wallStep = 50 * time.Millisecond

// wall returns what the wall clock is ahead of the boot clock. The databases'
// moments can only be compared while that stays the same.
func (h history) wall() (ahead int64, err error) {
	var seen []int64
	for _, l := range h.stage {
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

// reign is one run of a leader callback.
type reign struct {
	life
	term uint64
	span       // to its return, its process's death, or never
	cut  int64 // when its process was stopped in it, for good as far as the lease goes; else its end
}

// reigns returns every run of a callback, by start.
func (h history) reigns() []reign {
	deaths, stops := h.deaths(), h.stops()
	type of struct {
		life
		term uint64
	}
	ends := map[of]int64{}
	var reigns []reign
	for _, l := range h.members {
		switch l.What {
		case entered:
			reigns = append(reigns, reign{life: l.life(), term: l.Term, span: span{l.At, never}})
		case exited:
			ends[of{l.life(), l.Term}] = l.At
		}
	}
	for i := range reigns {
		r := &reigns[i]
		if death, ok := deaths[r.life]; ok {
			r.to = death
		}
		if end, ok := ends[of{r.life, r.term}]; ok {
			r.to = end
		}
		r.cut = r.to
		for _, s := range stops[r.life] {
			if s.length() >= renewDeadline && s.from >= r.from && s.from < r.cut {
				r.cut = s.from
			}
		}
	}
	slices.SortStableFunc(reigns, func(a, b reign) int { return cmp.Compare(a.from, b.from) })
	return reigns
}

// attempt is one try to append an entry.
type attempt struct {
	life
	term    uint64
	token   string
	outcome what // "" if its process was killed before it could tell
	span         // to the outcome, its process's death, or never
}

// attempts returns every try, by token.
func (h history) attempts() map[string]*attempt {
	deaths := h.deaths()
	attempts := map[string]*attempt{}
	for _, l := range h.members {
		switch l.What {
		case began:
			a := &attempt{life: l.life(), term: l.Term, token: l.Token, span: span{l.At, never}}
			if death, ok := deaths[a.life]; ok {
				a.to = death
			}
			attempts[l.Token] = a
		case committed, refused, unknown, failed:
			if a := attempts[l.Token]; a != nil {
				a.outcome, a.to = l.What, l.At
			}
		}
	}
	return attempts
}

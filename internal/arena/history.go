package arena

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"
)

// History is all the evidence of a run.
type History struct {
	Ledger  []Entry // by number
	Members []Line  // the members' logs, by moment
	Stage   []Line  // the stage's log
}

// ReadHistory reads the ledger and every log back, when all processes have ended.
func ReadHistory(ctx context.Context, dir string, l *Ledger) (h History, err error) {
	if h.Ledger, err = l.Entries(ctx); err != nil {
		return h, err
	}
	h.Stage, h.Members, err = readLogs(dir)
	slices.SortStableFunc(h.Members, func(a, b Line) int { return cmp.Compare(a.At, b.At) })
	return h, err
}

// Never is later than all that happens.
const Never = math.MaxInt64

// Span is a time in which something was so.
type Span struct{ From, To int64 }

// Length is how long it was so.
func (s Span) Length() time.Duration { return time.Duration(s.To - s.From) }

// Meets reports whether two spans have a time in common.
func (s Span) Meets(other Span) bool { return s.From < other.To && other.From < s.To }

// deaths are the moments at which processes were killed.
func (h History) deaths() map[Process]int64 {
	deaths := map[Process]int64{}
	for _, l := range h.Stage {
		if l.What == Killed {
			deaths[l.Process()] = l.At
		}
	}
	return deaths
}

// stops are the times in which processes did not run: as the stage knows, which
// froze them, and as they know themselves.
func (h History) stops() map[Process][]Span {
	stops := map[Process][]Span{}
	for _, l := range h.Stage {
		at := stops[l.Process()]
		switch {
		case l.What == Frozen:
			stops[l.Process()] = append(at, Span{l.At, Never})
		case l.What == Thawed && len(at) > 0:
			at[len(at)-1].To = l.At
		}
	}
	for _, l := range h.Members {
		if l.What == Stalled {
			stops[l.Process()] = append(stops[l.Process()], Span{l.At - l.For, l.At})
		}
	}
	return stops
}

// Reign is one run of a leader callback.
type Reign struct {
	Process
	Term uint64
	Span       // to its return, its process's death, or Never
	Cut  int64 // when its process was stopped in it, for good as far as the lease goes; else its end
}

// reigns returns every run of a callback, by start.
func (h History) reigns(lease Lease) []Reign {
	deaths, stops := h.deaths(), h.stops()
	type of struct {
		Process
		term uint64
	}
	ends := map[of]int64{}
	var reigns []Reign
	for _, l := range h.Members {
		switch l.What {
		case Entered:
			reigns = append(reigns, Reign{Process: l.Process(), Term: l.Term, Span: Span{l.At, Never}})
		case Exited:
			ends[of{l.Process(), l.Term}] = l.At
		}
	}
	for i := range reigns {
		r := &reigns[i]
		if death, ok := deaths[r.Process]; ok {
			r.To = death
		}
		if end, ok := ends[of{r.Process, r.Term}]; ok {
			r.To = min(r.To, end)
		}
		r.Cut = r.To
		for _, s := range stops[r.Process] {
			if s.Length() >= lease.RenewDeadline && s.From >= r.From && s.From < r.Cut {
				r.Cut = s.From
			}
		}
	}
	slices.SortStableFunc(reigns, func(a, b Reign) int { return cmp.Compare(a.From, b.From) })
	return reigns
}

// Attempt is one try to append an entry.
type Attempt struct {
	Process
	Term    uint64
	Outcome What  // "" if its process was killed before it could tell
	Seq     int64 // the number that it took, if it told one
	Span          // to the outcome, its process's death, or Never

	begun, told int // how often its beginning and its outcome were written down
}

// attempts returns every try, by token.
func (h History) attempts() map[string]*Attempt {
	deaths := h.deaths()
	attempts := map[string]*Attempt{}
	for _, l := range h.Members {
		switch l.What {
		case Began, Committed, Refused, Unknown, Failed:
		default:
			continue
		}
		a := attempts[l.Token]
		if a == nil {
			a = &Attempt{Process: l.Process(), Term: l.Term, Span: Span{l.At, Never}}
			if death, ok := deaths[a.Process]; ok {
				a.To = death
			}
			attempts[l.Token] = a
		}
		if l.What == Began {
			a.begun++
			continue
		}
		a.told++
		a.Outcome, a.Seq, a.To = l.What, l.Seq, l.At
	}
	return attempts
}

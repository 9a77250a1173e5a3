//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sqlelect/election/internal/arena"
)

// The promises that only this run can put to the test, besides the arena's.
const (
	inItsReign  = "every guarded entry was committed while its writer led, in its term"
	acquired    = "terms grew from one acquisition to the next, and each callback ran in one that its member acquired"
	clocksAgree = "the clocks can be compared"
	wentOn      = "the election went on after every fault"
	obeyed      = "every process ended when it was told to, and only then"
)

// ledAgain is a promise about lengths of time.
var ledAgain = fmt.Sprintf("outside of outages somebody led again within %v, and the time that processes were frozen", longest)

// verdict is what a history proves.
type verdict struct {
	arena.Verdict
	faults     map[kind]int
	terms      int             // acquisitions
	woken      int             // refusals to leaders that had been stopped, in the term of then
	inFlight   int             // guarded transactions that were under way when somebody else became leader
	vacancies  []time.Duration // without a leader, by length, outside of outages
	recoveries []time.Duration // likewise, from the end of an outage
}

// judge weighs a history. It reads nothing else.
func judge(h history) verdict {
	v := verdict{Verdict: arena.Judge(h.History, lease), faults: map[kind]int{}}
	for _, l := range h.Stage {
		if l.What == struck {
			v.faults[kind(l.Fault)]++
		}
	}
	v.judgeEntries(h)
	v.judgeAcquisitions(h)
	v.countWoken()
	v.countFlights(h)
	v.judgeProgress(h)
	v.measureVacancies(h)
	return v
}

// judgeEntries holds every entry against the last change of leader before it.
func (v *verdict) judgeEntries(h history) {
	var broken []string
	var reign change
	changes := h.changes
	for _, e := range h.Ledger {
		for len(changes) > 0 && changes[0].seq < e.Seq {
			reign, changes = changes[0], changes[1:]
		}
		if e.Member == "" || e.Member != reign.member || e.Term != reign.term {
			broken = append(broken, fmt.Sprintf("%s is in the reign of %q in term %d, which began with entry %d",
				e, reign.member, reign.term, reign.seq))
		}
	}
	v.Add(inItsReign, broken)
}

// judgeAcquisitions looks at the changes of leader, and at the callbacks in them.
func (v *verdict) judgeAcquisitions(h history) {
	var broken []string
	var highest uint64
	leaders := map[uint64]string{}
	for _, c := range h.changes {
		if c.member == "" {
			continue
		}
		v.terms++
		if c.term <= highest {
			broken = append(broken, fmt.Sprintf("%s acquired term %d after term %d", c.member, c.term, highest))
		}
		highest = max(highest, c.term)
		leaders[c.term] = c.member
	}
	for _, r := range v.Reigns {
		if leaders[r.Term] != r.Member {
			broken = append(broken, fmt.Sprintf("the callback of %s ran in term %d, which %q acquired", r.Process, r.Term, leaders[r.Term]))
		}
	}
	v.Add(acquired, broken)
}

// countWoken counts the zombies' attempts that the guard refused.
func (v *verdict) countWoken() {
	woken := map[uint64]arena.Process{}
	for _, r := range v.Reigns {
		if r.Cut < r.To {
			woken[r.Term] = r.Process
		}
	}
	for _, a := range v.Attempts {
		if a.Outcome == arena.Refused && woken[a.Term] == a.Process {
			v.woken++
		}
	}
}

// countFlights counts attempts that were under way at changes of leader.
func (v *verdict) countFlights(h history) {
	ahead, err := h.wall()
	if err != nil {
		v.Add(clocksAgree, []string{err.Error()})
		return
	}
	for _, c := range h.changes {
		if c.member == "" {
			continue
		}
		at := c.at*int64(time.Microsecond) - ahead
		for _, a := range v.Attempts {
			if a.Term < c.term && a.From < at && at < a.To {
				v.inFlight++
			}
		}
	}
}

// judgeProgress repeats what the stage has seen.
func (v *verdict) judgeProgress(h history) {
	var still, gone []string
	for _, l := range h.Stage {
		switch l.What {
		case stuck:
			still = append(still, fmt.Sprintf("at %.1f s: %s", time.Duration(l.At-h.Stage[0].At).Seconds(), l.Err))
		case deserted:
			gone = append(gone, fmt.Sprintf("%s: %s", l.Process(), l.Err))
		}
	}
	v.Add(wentOn, still)
	v.Add(obeyed, gone)
}

// longest is how long nobody may lead outside of outages: the dead leader's lease
// as its successor saw it, what its connections may hold up on a server, and a busy
// machine.
const longest = leaseDuration + renewInterval + 3*guardTimeout + 2*time.Second

// measureVacancies measures from the end of each callback, or the moment its
// process was stopped, to the start of the next.
func (v *verdict) measureVacancies(h history) {
	var broken []string
	outages := h.outages()
	for i := 1; i < len(v.Reigns); i++ {
		next := v.Reigns[i]
		vacancy := arena.Span{From: v.Reigns[i-1].Cut, To: next.From}
		if vacancy.From > vacancy.To {
			continue
		}
		length := &v.vacancies
		for _, o := range outages {
			if vacancy.Meets(o) {
				length = &v.recoveries
				vacancy.From = max(vacancy.From, min(o.To, vacancy.To))
			}
		}
		*length = append(*length, vacancy.Length())
		if vacancy.Length() > longest+h.frozenIn(vacancy) {
			broken = append(broken, fmt.Sprintf("nobody led for %v before %s in term %d", vacancy.Length(), next.Process, next.Term))
		}
	}
	v.Add(ledAgain, broken)
	slices.Sort(v.vacancies)
	slices.Sort(v.recoveries)
}

func median(lengths []time.Duration) time.Duration {
	if len(lengths) == 0 {
		return 0
	}
	return lengths[len(lengths)/2]
}

func worst(lengths []time.Duration) time.Duration {
	if len(lengths) == 0 {
		return 0
	}
	return lengths[len(lengths)-1]
}

// print says which promises held, and why one did not.
func (v verdict) print(out io.Writer, engine string) {
	const shown = 10
	fmt.Fprintf(out, "\n%s:\n", engine)
	for _, p := range v.Promises {
		p.Print(out, shown)
	}
	fmt.Fprintf(out, "  %d entries of killed writers, %d attempts failed, %d callbacks of stopped processes overlapped, without a leader after outages: median %v, worst %v\n",
		v.Orphans, v.Failures, v.Overlaps, median(v.recoveries).Round(time.Millisecond), worst(v.recoveries).Round(time.Millisecond))
}

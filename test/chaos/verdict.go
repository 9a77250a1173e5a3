//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// verdict is what a history proves.
type verdict struct {
	faults     map[kind]int
	terms      int // acquisitions
	entries    int // of members
	refusals   int
	woken      int             // … to leaders that had been stopped, in the term of then
	unknowns   int             // commits of unknown outcome
	landed     int             // … of them in the ledger
	orphans    int             // entries whose writer was killed before it could tell
	failures   int             // attempts that failed for another reason
	inFlight   int             // guarded transactions that were under way when somebody else became leader
	overlaps   int             // of callbacks, of processes that had been stopped
	vacancies  []time.Duration // without a leader, by length, outside of outages
	recoveries []time.Duration // likewise, from the end of an outage
	promises   []promise
}

// promise is one sentence that must hold, and all that speaks against it.
type promise struct {
	sentence string
	broken   []string
}

func (v verdict) violations() (n int) {
	for _, p := range v.promises {
		n += len(p.broken)
	}
	return n
}

// judge weighs a history. It reads nothing else.
func judge(h history) verdict {
	v := verdict{faults: map[kind]int{}}
	for _, l := range h.stage {
		if l.What == struck {
			v.faults[l.Fault]++
		}
	}
	reigns, attempts := h.reigns(), h.attempts()
	v.judgeEntries(h)
	v.judgeTerms(h, reigns)
	v.judgeOverlaps(h, reigns)
	v.judgeAttempts(h, attempts)
	v.countWoken(reigns, attempts)
	v.judgeFlights(h, attempts)
	v.judgeProgress(h)
	v.measureVacancies(h, reigns)
	return v
}

func (v *verdict) add(sentence string, broken []string) {
	v.promises = append(v.promises, promise{sentence, broken})
}

// judgeEntries holds every entry against the last change of leader before it.
func (v *verdict) judgeEntries(h history) {
	var broken []string
	var reign entry
	for _, e := range h.ledger {
		switch {
		case e.Change:
			reign = e
		case e.Member == "" || e.Member != reign.Member || e.Term != reign.Term:
			broken = append(broken, fmt.Sprintf("entry %d of %s-%d in term %d is in the reign of %q in term %d, which began with entry %d",
				e.Seq, e.Member, e.Life, e.Term, reign.Member, reign.Term, reign.Seq))
		}
		if !e.Change {
			v.entries++
		}
	}
	v.add("every guarded entry was committed while its writer led, in its term", broken)
}

// judgeTerms looks at acquisitions, callbacks, and who wrote in a term.
func (v *verdict) judgeTerms(h history, reigns []reign) {
	var broken []string
	var highest uint64
	leaders := map[uint64]string{}
	lives := map[uint64]life{}
	for _, e := range h.ledger {
		switch {
		case e.Change && e.Member != "":
			v.terms++
			if e.Term <= highest {
				broken = append(broken, fmt.Sprintf("%s acquired term %d after term %d", e.Member, e.Term, highest))
			}
			highest = max(highest, e.Term)
			leaders[e.Term] = e.Member
		case !e.Change:
			writer := life{e.Member, e.Life}
			if known, ok := lives[e.Term]; ok && known != writer {
				broken = append(broken, fmt.Sprintf("%s and %s both wrote in term %d", known, writer, e.Term))
			}
			lives[e.Term] = writer
		}
	}
	callbacks := map[uint64]life{}
	var last uint64
	for _, r := range reigns {
		if known, ok := callbacks[r.term]; ok {
			broken = append(broken, fmt.Sprintf("the callbacks of %s and %s both ran in term %d", known, r.life, r.term))
		}
		callbacks[r.term] = r.life
		if r.term < last {
			broken = append(broken, fmt.Sprintf("the callback of %s in term %d started after one in term %d", r.life, r.term, last))
		}
		last = max(last, r.term)
		if leaders[r.term] != r.member {
			broken = append(broken, fmt.Sprintf("the callback of %s ran in term %d, which %q acquired", r.life, r.term, leaders[r.term]))
		}
		if writer, ok := lives[r.term]; ok && writer != r.life {
			broken = append(broken, fmt.Sprintf("%s wrote in term %d of %s", writer, r.term, r.life))
		}
	}
	v.add("terms grow, and each belongs to one callback of one process", broken)
}

// judgeOverlaps looks for two callbacks at once. One whose process was stopped or
// did not get to run may overlap with the next, up to the moment when it has run
// again for as long as its ctx's end leaves it.
func (v *verdict) judgeOverlaps(h history, reigns []reign) {
	var broken []string
	stops := h.stops()
	for i, r := range reigns {
		for _, later := range reigns[i+1:] {
			if !r.meets(later.span) {
				continue
			}
			excused := slices.ContainsFunc(stops[r.life], func(s span) bool {
				return s.length() >= margin/2 && s.from <= later.from && r.to-int64(margin) <= s.to
			})
			if excused {
				v.overlaps++
				continue
			}
			broken = append(broken, fmt.Sprintf("%s in term %d and %s in term %d both ran for %v",
				r.life, r.term, later.life, later.term, span{later.from, min(r.to, later.to)}.length()))
		}
	}
	v.add("no two callbacks ran at once, unless a process was stopped", broken)
}

// judgeAttempts compares what members were told with what is in the ledger.
func (v *verdict) judgeAttempts(h history, attempts map[string]*attempt) {
	var broken []string
	found := map[string]bool{}
	for _, e := range h.ledger {
		if e.Change {
			continue
		}
		a := attempts[e.Token]
		switch {
		case found[e.Token]:
			broken = append(broken, fmt.Sprintf("%s is in the ledger twice", e.Token))
		case a == nil || a.life != (life{e.Member, e.Life}) || a.term != e.Term:
			broken = append(broken, fmt.Sprintf("entry %d (%s) is nobody's", e.Seq, e.Token))
		case a.outcome == refused || a.outcome == failed:
			broken = append(broken, fmt.Sprintf("%s is in the ledger, and its writer was told that it %s", e.Token, a.outcome))
		case a.outcome == unknown:
			v.landed++
		case a.outcome == "" && a.to != never:
			v.orphans++
		}
		found[e.Token] = true
	}
	for _, token := range slices.Sorted(maps.Keys(attempts)) {
		switch a := attempts[token]; {
		case a.outcome == committed && !found[token]:
			broken = append(broken, fmt.Sprintf("%s was acknowledged, and is not in the ledger", token))
		case a.to == never:
			broken = append(broken, fmt.Sprintf("%s never returned", token))
		case a.outcome == refused:
			v.refusals++
		case a.outcome == unknown:
			v.unknowns++
		case a.outcome == failed:
			v.failures++
		}
	}
	v.add("the ledger has what was acknowledged, and nothing but that, what is unknown, and what the killed wrote", broken)
}

// countWoken counts the zombies' attempts that the guard refused.
func (v *verdict) countWoken(reigns []reign, attempts map[string]*attempt) {
	woken := map[uint64]life{}
	for _, r := range reigns {
		if r.cut < r.to {
			woken[r.term] = r.life
		}
	}
	for _, a := range attempts {
		if a.outcome == refused && woken[a.term] == a.life {
			v.woken++
		}
	}
}

// judgeFlights counts attempts that were under way at changes of leader.
func (v *verdict) judgeFlights(h history, attempts map[string]*attempt) {
	ahead, err := h.wall()
	if err != nil {
		v.add("the clocks can be compared", []string{err.Error()})
		return
	}
	for _, e := range h.ledger {
		if !e.Change || e.Member == "" {
			continue
		}
		at := e.At*int64(time.Microsecond) - ahead
		for _, a := range attempts {
			if a.term < e.Term && a.from < at && at < a.to {
				v.inFlight++
			}
		}
	}
}

// judgeProgress repeats what the stage has seen.
func (v *verdict) judgeProgress(h history) {
	var still, gone []string
	for _, l := range h.stage {
		switch l.What {
		case stuck:
			still = append(still, fmt.Sprintf("at %.1f s: %s", time.Duration(l.At-h.stage[0].At).Seconds(), l.Err))
		case deserted:
			gone = append(gone, fmt.Sprintf("%s: %s", l.life(), l.Err))
		}
	}
	v.add("the election went on after every fault", still)
	v.add("every process ended when it was told to, and only then", gone)
}

// longest is how long nobody may lead outside of outages: the dead leader's lease
// as its successor saw it, what its connections may hold up on a server, and a busy
// machine.
const longest = leaseDuration + renewInterval + 3*guardTimeout + 2*time.Second

// measureVacancies measures from the end of each callback, or the moment its
// process was stopped, to the start of the next.
func (v *verdict) measureVacancies(h history, reigns []reign) {
	var broken []string
	outages := h.outages()
	for i := 1; i < len(reigns); i++ {
		vacancy := span{reigns[i-1].cut, reigns[i].from}
		if vacancy.from > vacancy.to {
			continue
		}
		length := &v.vacancies
		for _, o := range outages {
			if vacancy.meets(o) {
				length = &v.recoveries
				vacancy.from = max(vacancy.from, min(o.to, vacancy.to))
			}
		}
		*length = append(*length, vacancy.length())
		if vacancy.length() > longest+h.stoppedIn(vacancy) {
			broken = append(broken, fmt.Sprintf("nobody led for %v before %s in term %d", vacancy.length(), reigns[i].life, reigns[i].term))
		}
	}
	v.add(fmt.Sprintf("outside of outages somebody led again within %v, and the time that processes were stopped", longest), broken)
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
	for _, p := range v.promises {
		mark := "held   "
		if len(p.broken) > 0 {
			mark = "BROKEN "
		}
		fmt.Fprintf(out, "  %s %s\n", mark, p.sentence)
		for i, reason := range p.broken {
			if i == shown {
				fmt.Fprintf(out, "          … and %d more\n", len(p.broken)-shown)
				break
			}
			fmt.Fprintf(out, "          %s\n", reason)
		}
	}
	fmt.Fprintf(out, "  %d entries of killed writers, %d attempts failed, %d callbacks of stopped processes overlapped, without a leader after outages: median %v, worst %v\n",
		v.orphans, v.failures, v.overlaps, median(v.recoveries).Round(time.Millisecond), worst(v.recoveries).Round(time.Millisecond))
}

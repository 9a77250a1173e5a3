package arena

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// The promises that hold in every run.
const (
	NoOverlap  = "no two leader callbacks overlapped"
	TermsGrow  = "terms only grew, and no term had two callbacks"
	LedByTerm  = "every ledger entry was written by a leader, in its term"
	Remembered = "the ledger holds every acknowledged entry, and no unknown one"
)

// Verdict is what a history proves.
type Verdict struct {
	Reigns   []Reign
	Attempts map[string]*Attempt // by token

	Entries  int // in the ledger
	Refusals int // attempts that the guard turned down
	Unknowns int // commits of unknown outcome
	Landed   int // … of them in the ledger
	Orphans  int // entries whose writer was killed before it could tell
	Failures int // attempts that failed for another reason
	Overlaps int // of callbacks with the next, of processes that had been stopped

	Promises []Promise
}

// Promise is one sentence that must hold, and all that speaks against it.
type Promise struct {
	Sentence string
	Broken   []string
}

// Judge weighs a history. It reads nothing else, least of all what members told the
// stage during the run.
func Judge(h History, lease Lease) Verdict {
	v := Verdict{Reigns: h.reigns(lease), Attempts: h.attempts(), Entries: len(h.Ledger)}
	v.judgeOverlaps(h, lease)
	v.judgeTerms()
	v.judgeWriters(h)
	v.judgeMemory(h)
	return v
}

// Add adds a promise, which holds if nothing speaks against it.
func (v *Verdict) Add(sentence string, broken []string) {
	v.Promises = append(v.Promises, Promise{sentence, broken})
}

// Against is what speaks against a promise.
func (v Verdict) Against(sentence string) []string {
	for _, p := range v.Promises {
		if p.Sentence == sentence {
			return p.Broken
		}
	}
	return nil
}

// Broken counts the promises that did not hold.
func (v Verdict) Broken() (n int) {
	for _, p := range v.Promises {
		n += min(1, len(p.Broken))
	}
	return n
}

// Violations counts what speaks against any promise.
func (v Verdict) Violations() (n int) {
	for _, p := range v.Promises {
		n += len(p.Broken)
	}
	return n
}

// judgeOverlaps looks for two callbacks at once, in different processes or in one.
// One whose process was stopped or did not get to run may overlap with the next, up
// to the moment when it has run again for as long as its lease leaves it.
func (v *Verdict) judgeOverlaps(h History, lease Lease) {
	var broken []string
	stops, margin := h.stops(), lease.margin()
	for i, r := range v.Reigns {
		switch {
		case r.To == Never:
			broken = append(broken, fmt.Sprintf("the callback of %s in term %d never returned", r.Process, r.Term))
		case r.To < r.From:
			broken = append(broken, fmt.Sprintf("the callback of %s in term %d started after its end", r.Process, r.Term))
		}
		for _, later := range v.Reigns[i+1:] {
			if !r.Meets(later.Span) {
				continue
			}
			excused := slices.ContainsFunc(stops[r.Process], func(s Span) bool {
				return s.Length() >= margin/2 && s.From <= later.From && r.To-int64(margin) <= s.To
			})
			if excused {
				v.Overlaps++
				continue
			}
			broken = append(broken, fmt.Sprintf("%s in term %d and %s in term %d both ran%s",
				r.Process, r.Term, later.Process, later.Term, forHow(Span{later.From, min(r.To, later.To)})))
		}
	}
	v.Add(NoOverlap, broken)
}

func forHow(s Span) string {
	if s.To == Never {
		return ""
	}
	return " for " + s.Length().String()
}

// judgeTerms holds callbacks against the order in which they started.
func (v *Verdict) judgeTerms() {
	var broken []string
	var highest uint64
	for _, r := range v.Reigns {
		switch {
		case r.Term == 0:
			broken = append(broken, fmt.Sprintf("a callback of %s carried no term", r.Process))
		case r.Term == highest:
			broken = append(broken, fmt.Sprintf("%s started a second callback in term %d", r.Process, r.Term))
		case r.Term < highest:
			broken = append(broken, fmt.Sprintf("%s started a callback in term %d after one in term %d", r.Process, r.Term, highest))
		}
		highest = max(highest, r.Term)
	}
	v.Add(TermsGrow, broken)
}

// judgeWriters looks for entries by a process that did not lead. Entries were
// committed in the order of their numbers, so one that stands behind an entry of a
// later term was written when its writer no longer led.
func (v *Verdict) judgeWriters(h History) {
	leaders := map[uint64]Process{}
	for _, r := range v.Reigns {
		if _, ok := leaders[r.Term]; !ok { // a second one in a term is judged elsewhere
			leaders[r.Term] = r.Process
		}
	}
	var broken []string
	if len(h.Ledger) == 0 {
		broken = append(broken, "the ledger is empty: nothing was tested")
	}
	var highest uint64
	for _, e := range h.Ledger {
		switch leader, ok := leaders[e.Term]; {
		case !ok:
			broken = append(broken, fmt.Sprintf("%s: nobody led in that term", e))
		case leader != e.Process:
			broken = append(broken, fmt.Sprintf("%s: %s led in that term", e, leader))
		case e.Term < highest:
			broken = append(broken, fmt.Sprintf("%s: it stands behind an entry of term %d", e, highest))
		}
		highest = max(highest, e.Term)
	}
	v.Add(LedByTerm, broken)
}

// judgeMemory compares what members were told with what is in the ledger.
func (v *Verdict) judgeMemory(h History) {
	var broken []string
	found := map[string]bool{}
	for _, e := range h.Ledger {
		a := v.Attempts[e.Token]
		switch {
		case found[e.Token]:
			broken = append(broken, fmt.Sprintf("%s: its token is in the ledger twice", e))
		case a == nil || a.Process != e.Process || a.Term != e.Term:
			broken = append(broken, fmt.Sprintf("%s: no log knows of it", e))
		case a.Outcome == Committed && a.Seq != e.Seq:
			broken = append(broken, fmt.Sprintf("%s: it was acknowledged as entry %d", e, a.Seq))
		case a.Outcome == Refused || a.Outcome == Failed:
			broken = append(broken, fmt.Sprintf("%s: its writer was told: %s", e, a.Outcome))
		case a.Outcome == Unknown:
			v.Landed++
		case a.Outcome == "" && a.To != Never:
			v.Orphans++
		}
		found[e.Token] = true
	}
	for _, token := range slices.Sorted(maps.Keys(v.Attempts)) {
		a := v.Attempts[token]
		if a.begun != 1 || a.told > 1 {
			broken = append(broken, fmt.Sprintf("%s began %d times, and had %d outcomes", token, a.begun, a.told))
		}
		switch {
		case a.Outcome == Committed && !found[token]:
			broken = append(broken, fmt.Sprintf("%s was acknowledged, and is not in the ledger", token))
		case a.To == Never:
			broken = append(broken, fmt.Sprintf("%s never returned", token))
		case a.Outcome == Refused:
			v.Refusals++
		case a.Outcome == Unknown:
			v.Unknowns++
		case a.Outcome == Failed:
			v.Failures++
		}
	}
	v.Add(Remembered, broken)
}

// Print writes whether the promise held, and at most so many reasons why not.
func (p Promise) Print(out io.Writer, most int) {
	mark := "ok  "
	if len(p.Broken) > 0 {
		mark = "FAIL"
	}
	fmt.Fprintf(out, "  %s  %s\n", mark, p.Sentence)
	for _, finding := range p.Broken[:min(len(p.Broken), most)] {
		fmt.Fprintf(out, "          %s\n", finding)
	}
	if more := len(p.Broken) - most; more > 0 {
		fmt.Fprintf(out, "          … and %d more\n", more)
	}
}

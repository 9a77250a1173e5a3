package demo

import (
	"fmt"
	"slices"
	"time"
)

// verdict is what a history proves.
type verdict struct {
	handovers []handover
	entries   int // in the ledger
	maybes    int // commits of unknown outcome
	orphans   int // entries whose writer was killed before it could log them
	refusals  int // writes of woken leaders that the guard turned down
	promises  []promise
}

// promise is one sentence that must hold, and all that speaks against it.
type promise struct {
	sentence string
	broken   []string
}

// broken counts the promises that did not hold.
func (v verdict) broken() int {
	n := 0
	for _, p := range v.promises {
		if len(p.broken) > 0 {
			n++
		}
	}
	return n
}

// judge weighs a history. It reads nothing else, least of all what the members
// told the stage during the run.
func judge(h history) verdict {
	v := verdict{entries: len(h.ledger)}
	reigns := h.reigns()
	v.judgeHandovers(h, reigns)
	v.judgeOverlaps(reigns)
	v.judgeTerms(reigns)
	v.judgeWriters(h, reigns)
	v.judgeMemory(h)
	v.judgeWoken(h, reigns)
	return v
}

func (v *verdict) add(sentence string, broken []string) {
	v.promises = append(v.promises, promise{sentence, broken})
}

// judgeHandovers measures what each cue brought about.
func (v *verdict) judgeHandovers(h history, reigns []reign) {
	var broken []string
	for _, cue := range []what{resigned, transferred, killed, frozen} {
		given := h.cues(cue)
		if len(given) == 0 && !(cue == frozen && len(h.cues(unfreezable)) > 0) {
			broken = append(broken, fmt.Sprintf("no leader was %s", cue))
		}
		for _, l := range given {
			handover, err := passage(l, reigns)
			if err != nil {
				broken = append(broken, err.Error())
				continue
			}
			v.handovers = append(v.handovers, handover)
		}
	}
	v.add("after every resignation, transfer, kill and freeze somebody else led", broken)
}

// judgeOverlaps looks for two callbacks at once, in different processes or in one.
func (v *verdict) judgeOverlaps(reigns []reign) {
	var broken []string
	for i, r := range reigns {
		switch {
		case !r.ended:
			broken = append(broken, fmt.Sprintf("the callback of %s in term %d never returned", r.process, r.term))
		case r.end < r.start:
			broken = append(broken, fmt.Sprintf("the callback of %s in term %d started after its end", r.process, r.term))
		}
		for _, later := range reigns[i+1:] {
			if over := min(r.end, later.end) - later.start; over > 0 {
				broken = append(broken, fmt.Sprintf("%s in term %d and %s in term %d both ran%s",
					r.process, r.term, later.process, later.term, forHow(over, r, later)))
			}
		}
	}
	v.add("no two leader callbacks overlapped", broken)
}

func forHow(over int64, reigns ...reign) string {
	for _, r := range reigns {
		if r.ended {
			return " for " + time.Duration(over).String()
		}
	}
	return ""
}

// judgeTerms holds callbacks against the order in which they started.
func (v *verdict) judgeTerms(reigns []reign) {
	var broken []string
	var highest uint64
	for _, r := range reigns {
		switch {
		case r.term == 0:
			broken = append(broken, fmt.Sprintf("a callback of %s carried no term", r.process))
		case r.term == highest:
			broken = append(broken, fmt.Sprintf("%s started a second callback in term %d", r.process, r.term))
		case r.term < highest:
			broken = append(broken, fmt.Sprintf("%s started a callback in term %d after one in term %d", r.process, r.term, highest))
		}
		highest = max(highest, r.term)
	}
	v.add("terms only grew, and no term had two callbacks", broken)
}

// judgeWriters looks for entries by a member that did not lead. Entries were
// committed in the order of their sequence, so one that stands behind an entry
// of a later term was written when its writer no longer led.
func (v *verdict) judgeWriters(h history, reigns []reign) {
	leaders := map[uint64]string{}
	for _, r := range reigns {
		if leaders[r.term] == "" { // a second one in a term is judged elsewhere
			leaders[r.term] = r.member
		}
	}
	var broken []string
	if len(h.ledger) == 0 {
		broken = append(broken, "the ledger is empty: nothing was tested")
	}
	var highest uint64
	for _, e := range h.ledger {
		switch leader := leaders[e.Term]; {
		case leader == "":
			broken = append(broken, fmt.Sprintf("%s: nobody led in that term", e))
		case leader != e.Member:
			broken = append(broken, fmt.Sprintf("%s: %s led in that term", e, leader))
		case e.Term < highest:
			broken = append(broken, fmt.Sprintf("%s: it stands behind an entry of term %d", e, highest))
		}
		highest = max(highest, e.Term)
	}
	v.add("every ledger entry was written by a leader, in its term", broken)
}

// judgeMemory compares what members say they wrote with what is there.
func (v *verdict) judgeMemory(h history) {
	claims, broken := v.claims(h)
	// A killed writer, which has one entry in hand at a time, may leave one
	// committed entry that it could not log any more.
	type writer struct {
		member string
		term   uint64
	}
	unlogged := map[writer]int{}
	for _, l := range h.cues(killed) {
		unlogged[writer{l.Member, l.Term}]++
	}
	for _, e := range h.ledger {
		if w := (writer{e.Member, e.Term}); claims[e] == "" && unlogged[w] > 0 {
			unlogged[w]--
			v.orphans++
		} else if claims[e] == "" {
			broken = append(broken, fmt.Sprintf("%s: no log knows of it", e))
		}
		delete(claims, e)
	}
	for e, claim := range claims {
		if claim == committed {
			broken = append(broken, fmt.Sprintf("%s: it was acknowledged and is not in the ledger", e))
		}
	}
	slices.Sort(broken)
	v.add("the ledger holds every acknowledged entry, and no unknown one", broken)
}

// claims returns what the logs say of each entry: committed, or maybe.
func (v *verdict) claims(h history) (claims map[entry]what, broken []string) {
	claims = map[entry]what{}
	for _, l := range h.members {
		e := entry{l.Seq, l.Term, l.Member}
		switch {
		case l.What == maybe:
			v.maybes++
			if claims[e] == "" {
				claims[e] = maybe
			}
		case l.What == committed && claims[e] == committed:
			broken = append(broken, fmt.Sprintf("%s: it was acknowledged twice", e))
		case l.What == committed:
			claims[e] = committed
		}
	}
	return claims, broken
}

// judgeWoken holds every frozen leader to what it did once it was woken: each of
// its writes must have been turned down, and there must have been some.
func (v *verdict) judgeWoken(h history, reigns []reign) {
	const sentence = "every write of a woken leader was refused"
	if len(h.cues(unfreezable)) > 0 {
		v.add(sentence+" (not tested: this system cannot stop a process)", nil)
		return
	}
	var broken []string
	if len(h.cues(thawed)) == 0 {
		broken = append(broken, "no leader was woken: nothing was tested")
	}
	for _, thaw := range h.cues(thawed) {
		succeeded := slices.ContainsFunc(reigns, func(r reign) bool { return r.term > thaw.Term && r.start < thaw.At })
		if !succeeded {
			broken = append(broken, fmt.Sprintf("%s was woken from term %d before anybody else led", thaw.process(), thaw.Term))
		}
		turnedDown, written := h.lateWrites(thaw)
		if turnedDown == 0 {
			broken = append(broken, fmt.Sprintf("%s, woken from term %d, was refused nothing: nothing was tested", thaw.process(), thaw.Term))
		}
		broken = append(broken, written...)
		v.refusals += turnedDown
	}
	v.add(sentence, broken)
}

// lateWrites returns what became of a woken leader's writes in its old term.
func (h history) lateWrites(thaw line) (turnedDown int, written []string) {
	for _, l := range h.members {
		if l.process() != thaw.process() || l.Term != thaw.Term || l.At < thaw.At {
			continue
		}
		switch l.What {
		case refused:
			turnedDown++
		case committed, maybe:
			written = append(written, fmt.Sprintf("%s: written after its writer was woken", entry{l.Seq, l.Term, l.Member}))
		}
	}
	return turnedDown, written
}

package demo

import (
	"fmt"
	"slices"
	"time"

	"github.com/sqlelect/election/internal/arena"
)

// The promises that only the script can put to the test, besides the arena's.
const (
	handedOver = "after every resignation, transfer, kill and freeze somebody else led"
	wokenHeld  = "every write of a woken leader was refused"
)

// verdict is what a history proves.
type verdict struct {
	arena.Verdict
	handovers    []handover
	lateRefusals int // writes of woken leaders that the guard turned down
}

// judge weighs a history: first what the script did, then what holds in every arena, and last what
// a woken leader wrote.
func judge(h arena.History) verdict {
	v := verdict{Verdict: arena.Judge(h, lease)}
	everywhere := v.Promises
	v.Promises = nil
	v.judgeHandovers(h)
	v.Promises = append(v.Promises, everywhere...)
	v.judgeWoken(h)
	return v
}

// did returns the lines in which the stage says that it did something to a leader.
func did(h arena.History, w arena.What) []arena.Line {
	return slices.DeleteFunc(slices.Clone(h.Stage), func(l arena.Line) bool { return l.What != w })
}

// judgeHandovers measures what the stage brought about each time. A step that is missing breaks the
// promise too: what was not tested did not hold.
func (v *verdict) judgeHandovers(h arena.History) {
	var broken []string
	for _, w := range []arena.What{resigned, transferred, arena.Killed, arena.Frozen} {
		done := did(h, w)
		// Only a freeze may be missing, on a system that cannot stop a process.
		if len(done) == 0 && !(w == arena.Frozen && len(did(h, unfreezable)) > 0) {
			broken = append(broken, fmt.Sprintf("no leader was %s", w))
		}
		for _, l := range done {
			handover, err := passage(l, v.Reigns)
			if err != nil {
				broken = append(broken, err.Error())
				continue
			}
			v.handovers = append(v.handovers, handover)
		}
	}
	v.Add(handedOver, broken)
}

// handover is the passage of the leadership that the stage brought about.
type handover struct {
	cue      arena.Line // what the stage did to the old leader
	heir     string
	heirTerm uint64
	took     time.Duration // old callback's exit, kill or freeze to the new callback's start
}

// passage finds the reign that was ended and the one that followed it, which is that of the next
// higher term. It is an error if there is none, or if the leader that was to go was followed by
// itself.
func passage(cue arena.Line, reigns []arena.Reign) (handover, error) {
	from := slices.IndexFunc(reigns, func(r arena.Reign) bool { return r.Process == cue.Process() && r.Term == cue.Term })
	if from < 0 {
		return handover{}, fmt.Errorf("%s was %s in term %d, which it never led in", cue.Process(), cue.What, cue.Term)
	}
	var next *arena.Reign
	for _, r := range reigns {
		if r.Term > cue.Term && (next == nil || r.Term < next.Term) {
			next = &r
		}
	}
	switch {
	case next == nil:
		return handover{}, fmt.Errorf("nobody led after %s was %s in term %d", cue.Process(), cue.What, cue.Term)
	// After a transfer the same member may lead again: a nomination is a hint.
	case next.Member == cue.Member && cue.What != transferred:
		return handover{}, fmt.Errorf("%s was %s in term %d, and led on in term %d", cue.Process(), cue.What, cue.Term, next.Term)
	}
	took := time.Duration(next.From - reigns[from].Cut)
	return handover{cue: cue, heir: next.Member, heirTerm: next.Term, took: took}, nil
}

// judgeWoken holds every frozen leader to what it did once it was woken: each of its writes must
// have been turned down, and there must have been some. It must have been woken after another reign
// had begun, or its writes were not late.
func (v *verdict) judgeWoken(h arena.History) {
	if len(did(h, unfreezable)) > 0 {
		v.Add(wokenHeld+" (not tested: this system cannot stop a process)", nil)
		return
	}
	var broken []string
	thaws := did(h, arena.Thawed)
	if len(thaws) == 0 {
		broken = append(broken, "no leader was woken: nothing was tested")
	}
	for _, thaw := range thaws {
		succeeded := slices.ContainsFunc(v.Reigns, func(r arena.Reign) bool { return r.Term > thaw.Term && r.From < thaw.At })
		if !succeeded {
			broken = append(broken, fmt.Sprintf("%s was woken from term %d before anybody else led", thaw.Process(), thaw.Term))
		}
		turnedDown, written := v.lateWrites(thaw)
		if turnedDown == 0 {
			broken = append(broken, fmt.Sprintf("%s, woken from term %d, was refused nothing: nothing was tested", thaw.Process(), thaw.Term))
		}
		broken = append(broken, written...)
		v.lateRefusals += turnedDown
	}
	v.Add(wokenHeld, broken)
}

// lateWrites returns what became of a woken leader's writes in its old term. A write of unknown
// outcome counts as written.
func (v *verdict) lateWrites(thaw arena.Line) (turnedDown int, written []string) {
	for token, a := range v.Attempts {
		if a.Process != thaw.Process() || a.Term != thaw.Term || a.To < thaw.At {
			continue
		}
		switch a.Outcome {
		case arena.Refused:
			turnedDown++
		case arena.Committed, arena.Unknown:
			written = append(written, fmt.Sprintf("%s in term %d: written after its writer was woken", token, a.Term))
		}
	}
	slices.Sort(written)
	return turnedDown, written
}

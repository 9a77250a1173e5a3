package demo

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// reign is one run of a leader callback.
type reign struct {
	process
	term       uint64
	start, end int64
	ended      bool // by an exit, a kill or a freeze
}

// reigns returns every run of a callback, by start.
func (h history) reigns() []reign {
	var reigns []reign
	for _, l := range h.members {
		if l.What == entered {
			r := reign{process: l.process(), term: l.Term, start: l.At}
			r.end, r.ended = h.endOf(r.process, r.term)
			reigns = append(reigns, r)
		}
	}
	slices.SortStableFunc(reigns, func(a, b reign) int { return cmp.Compare(a.start, b.start) })
	return reigns
}

// endOf returns when a callback ended, and whether it did. A killed process's
// ends with the kill. A frozen one's ends with the freeze: what it does once it
// is woken is outside the promise about overlaps, and the guard's business.
func (h history) endOf(p process, term uint64) (end int64, ended bool) {
	end = math.MaxInt64
	for _, l := range slices.Concat(h.members, h.stage) {
		if l.process() != p {
			continue
		}
		if l.What == killed || l.Term == term && (l.What == exited || l.What == frozen) {
			end, ended = min(end, l.At), true
		}
	}
	return end, ended
}

// handover is the passage of the leadership that one cue brought about.
type handover struct {
	cue      line // what the stage did to the old leader
	heir     string
	heirTerm uint64
	took     time.Duration // old callback's exit, kill or freeze to the new callback's start
}

func (h history) cues(w what) []line {
	return slices.DeleteFunc(slices.Clone(h.stage), func(l line) bool { return l.What != w })
}

// passage finds the reign that a cue ended and the one that followed it.
func passage(cue line, reigns []reign) (handover, error) {
	from := slices.IndexFunc(reigns, func(r reign) bool { return r.process == cue.process() && r.term == cue.Term })
	if from < 0 {
		return handover{}, fmt.Errorf("%s was %s in term %d, which it never led in", cue.process(), cue.What, cue.Term)
	}
	var next *reign
	for _, r := range reigns {
		if r.term > cue.Term && (next == nil || r.term < next.term) {
			next = &r
		}
	}
	switch {
	case next == nil:
		return handover{}, fmt.Errorf("nobody led after %s was %s in term %d", cue.process(), cue.What, cue.Term)
	case next.member == cue.Member && cue.What != transferred: // a nomination is a hint
		return handover{}, fmt.Errorf("%s was %s in term %d, and led on in term %d", cue.process(), cue.What, cue.Term, next.term)
	}
	took := time.Duration(next.start - reigns[from].end)
	return handover{cue: cue, heir: next.member, heirTerm: next.term, took: took}, nil
}

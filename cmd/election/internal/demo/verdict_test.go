package demo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sqlelect/election/internal/arena"
)

func at(ms int64) int64 { return ms * int64(time.Millisecond) }

// happened makes a line of the first process of a member.
func happened(ms int64, w arena.What, member string, term uint64) arena.Line {
	return arena.Line{At: at(ms), What: w, Member: member, Number: 1, Term: term}
}

// tried makes the lines of an attempt, which takes 5 ms.
func tried(ms int64, member string, term uint64, token string, outcome arena.What, seq int64) []arena.Line {
	began, told := happened(ms, arena.Began, member, term), happened(ms+5, outcome, member, term)
	began.Token, told.Token, told.Seq = token, token, seq
	return []arena.Line{began, told}
}

func entry(seq int64, term uint64, member string) arena.Entry {
	return arena.Entry{Seq: seq, Term: term, Process: arena.Process{Member: member, Number: 1}, Token: token(member, term)}
}

func token(member string, term uint64) string { return fmt.Sprint(member, "/", term) }

func wrote(ms int64, member string, term uint64, seq int64) []arena.Line {
	return tried(ms, member, term, token(member, term), arena.Committed, seq)
}

// goodHistory is a run in which everything held: a resigns, b transfers to c, c
// is killed, a is frozen and refused twice, b leads to the end.
func goodHistory() arena.History {
	transfer := happened(300, transferred, "b", 5)
	transfer.To = "c"
	return arena.History{
		Ledger: []arena.Entry{entry(1, 2, "a"), entry(2, 5, "b"), entry(3, 7, "c"), entry(4, 11, "a"), entry(5, 15, "b")},
		Stage: []arena.Line{
			happened(100, resigned, "a", 2), transfer, happened(500, arena.Killed, "c", 7),
			happened(800, arena.Frozen, "a", 11), happened(2300, arena.Thawed, "a", 11),
		},
		Members: slices.Concat(
			[]arena.Line{happened(10, arena.Entered, "a", 2)}, wrote(20, "a", 2, 1), []arena.Line{happened(110, arena.Exited, "a", 2)},
			[]arena.Line{happened(150, arena.Entered, "b", 5)}, wrote(160, "b", 5, 2), []arena.Line{happened(310, arena.Exited, "b", 5)},
			[]arena.Line{happened(380, arena.Entered, "c", 7)}, wrote(390, "c", 7, 3),
			[]arena.Line{happened(700, arena.Entered, "a", 11)}, wrote(710, "a", 11, 4),
			[]arena.Line{happened(1000, arena.Entered, "b", 15)}, wrote(1100, "b", 15, 5),
			[]arena.Line{happened(2310, arena.Exited, "a", 11)},
			tried(2320, "a", 11, "a/late1", arena.Refused, 0), tried(2330, "a", 11, "a/late2", arena.Refused, 0),
			[]arena.Line{happened(2400, arena.Exited, "b", 15)},
		),
	}
}

// edit returns a change of the first line for which match holds.
func edit(match func(arena.Line) bool, change func(*arena.Line)) func(*arena.History) {
	return func(h *arena.History) {
		for _, lines := range [][]arena.Line{h.Members, h.Stage} {
			if i := slices.IndexFunc(lines, match); i >= 0 {
				change(&lines[i])
				return
			}
		}
		panic("no such line")
	}
}

// without drops every line for which match holds.
func without(match func(arena.Line) bool) func(*arena.History) {
	return func(h *arena.History) {
		h.Members = slices.DeleteFunc(h.Members, match)
		h.Stage = slices.DeleteFunc(h.Stage, match)
	}
}

// is matches what happened to a member in a term.
func is(w arena.What, member string, term uint64) func(arena.Line) bool {
	return func(l arena.Line) bool { return l.What == w && l.Member == member && l.Term == term }
}

// adding adds lines of members.
func adding(lines ...arena.Line) func(*arena.History) {
	return func(h *arena.History) { h.Members = append(h.Members, lines...) }
}

func both(first, second func(*arena.History)) func(*arena.History) {
	return func(h *arena.History) { first(h); second(h) }
}

func TestJudgeGoodHistory(t *testing.T) {
	v := judge(goodHistory())
	if v.Broken() != 0 || v.Entries != 5 || v.Unknowns+v.Orphans != 0 || v.lateRefusals != 2 {
		t.Errorf("got %+v", v)
	}
	var sentences []string
	for _, p := range v.Promises {
		sentences = append(sentences, p.Sentence)
	}
	if !slices.Equal(sentences, []string{handedOver, arena.NoOverlap, arena.TermsGrow, arena.LedByTerm, arena.Remembered, wokenHeld}) {
		t.Errorf("got the promises %q", sentences)
	}
	want := []struct {
		cue  arena.What
		heir string
		took time.Duration
	}{
		{resigned, "b", 40 * time.Millisecond}, {transferred, "c", 70 * time.Millisecond},
		{arena.Killed, "a", 200 * time.Millisecond}, {arena.Frozen, "b", 200 * time.Millisecond},
	}
	if len(v.handovers) != len(want) {
		t.Fatalf("got %d hand-overs, want %d", len(v.handovers), len(want))
	}
	for i, w := range want {
		if h := v.handovers[i]; h.cue.What != w.cue || h.heir != w.heir || h.took != w.took {
			t.Errorf("hand-over %d: got %s to %s in %v, want %v", i, h.cue.What, h.heir, h.took, w)
		}
	}
}

// violation is a change of the good history, the one promise that it breaks
// (or none) and a part of what is found.
type violation struct {
	name     string
	change   func(*arena.History)
	sentence string
	finding  string
}

func checkViolations(t *testing.T, violations []violation) {
	t.Helper()
	for _, c := range violations {
		t.Run(c.name, func(t *testing.T) {
			h := goodHistory()
			c.change(&h)
			found := c.sentence == ""
			for _, p := range judge(h).Promises {
				if p.Sentence != c.sentence {
					if len(p.Broken) > 0 {
						t.Errorf("%s: %v, which was not expected", p.Sentence, p.Broken)
					}
					continue
				}
				found = slices.ContainsFunc(p.Broken, func(f string) bool { return strings.Contains(f, c.finding) })
			}
			if !found {
				t.Errorf("nothing found like %q", c.finding)
			}
		})
	}
}

// renamed makes what from did in a term the doing of to.
func renamed(from string, term uint64, to string) func(*arena.History) {
	return func(h *arena.History) {
		for _, lines := range [][]arena.Line{h.Members, h.Stage} {
			for i := range lines {
				if lines[i].Member == from && lines[i].Term == term {
					lines[i].Member = to
				}
			}
		}
		for i := range h.Ledger {
			if h.Ledger[i].Term == term {
				h.Ledger[i].Member = to
			}
		}
	}
}

func TestJudgeHandovers(t *testing.T) {
	checkViolations(t, []violation{
		{"nobody resigned", without(is(resigned, "a", 2)), handedOver, "no leader was resigned"},
		{"nobody transferred", without(is(transferred, "b", 5)), handedOver, "no leader was transferred"},
		{"nobody was frozen, for no reason", both(without(is(arena.Frozen, "a", 11)),
			edit(is(arena.Exited, "a", 11), func(l *arena.Line) { l.At = at(900) })), handedOver, "no leader was frozen"},
		{"in a term that was never led in", edit(is(resigned, "a", 2), func(l *arena.Line) { l.Term = 3 }),
			handedOver, "a-1 was resigned in term 3, which it never led in"},
		{"killed in another term", edit(is(arena.Killed, "c", 7), func(l *arena.Line) { l.Term = 5 }),
			handedOver, "c-1 was killed in term 5, which it never led in"},
		{"nobody followed", edit(is(transferred, "b", 5), func(l *arena.Line) { l.Member, l.Term = "b", 15 }),
			handedOver, "nobody led after b-1 was transferred in term 15"},
		{"the same member followed", renamed("b", 5, "a"), handedOver, "a-1 was resigned in term 2, and led on in term 5"},
		{"nobody heeded a nomination", both(both(renamed("c", 7, "d"), renamed("b", 5, "c")), renamed("d", 7, "c")), "", ""},
		{"a frozen leader that had returned before", edit(is(arena.Exited, "a", 11), func(l *arena.Line) { l.At = at(790) }), "", ""},
	})
}

func TestJudgeWoken(t *testing.T) {
	late := tried(2325, "a", 11, "a/late3", arena.Unknown, 6)
	refusals := func(l arena.Line) bool { return strings.HasPrefix(l.Token, "a/late") }
	inAnother := func(member string, term uint64) func(*arena.History) {
		return func(h *arena.History) {
			for i := range h.Members {
				if l := &h.Members[i]; refusals(*l) {
					l.Member, l.Term = member, term
				}
			}
		}
	}
	checkViolations(t, []violation{
		{"refused nothing", without(refusals), wokenHeld, "a-1, woken from term 11, was refused nothing"},
		{"refused before it was woken", both(without(refusals), adding(tried(790, "a", 11, "a/late3", arena.Refused, 0)...)),
			wokenHeld, "was refused nothing"},
		{"refused in another term", inAnother("a", 12), wokenHeld, "was refused nothing"},
		{"another member was refused", inAnother("b", 11), wokenHeld, "was refused nothing"},
		{"an unknown outcome", adding(late...), wokenHeld, "a/late3 in term 11: written after its writer was woken"},
		{"nobody was woken", without(is(arena.Thawed, "a", 11)), wokenHeld, "no leader was woken"},
		{"woken before anybody else led", both(edit(is(arena.Thawed, "a", 11), func(l *arena.Line) { l.At = at(999) }),
			edit(is(arena.Exited, "a", 11), func(l *arena.Line) { l.At = at(999) })), wokenHeld, "before anybody else led"},
		{"freezing is impossible", both(
			without(func(l arena.Line) bool { return l.What == arena.Frozen || l.What == arena.Thawed || refusals(l) }),
			both(edit(is(arena.Exited, "a", 11), func(l *arena.Line) { l.At = at(900) }),
				func(h *arena.History) { h.Stage = append(h.Stage, arena.Line{What: unfreezable}) }),
		), "", ""},
	})
	h := goodHistory()
	h.Ledger = append(h.Ledger, arena.Entry{Seq: 6, Term: 11, Process: arena.Process{Member: "a", Number: 1}, Token: "a/late3"})
	adding(tried(2325, "a", 11, "a/late3", arena.Committed, 6)...)(&h)
	if v := judge(h); v.Broken() != 2 {
		t.Errorf("a late write that got through broke %d promises, want 2: the ledger's and the woken leader's", v.Broken())
	}
}

func TestJudgeNothing(t *testing.T) {
	if v := judge(arena.History{}); v.Broken() != 3 {
		t.Errorf("an empty history breaks %d promises, want 3: nothing was done, written or refused", v.Broken())
	}
}

package demo

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// The sentences of the promises, by what breaks them.
const (
	handedOver = "after every resignation, transfer, kill and freeze somebody else led"
	noOverlap  = "no two leader callbacks overlapped"
	termsGrow  = "terms only grew, and no term had two callbacks"
	ledByTerm  = "every ledger entry was written by a leader, in its term"
	remembered = "the ledger holds every acknowledged entry, and no unknown one"
	wokenHeld  = "every write of a woken leader was refused"
)

func at(ms int64) int64 { return ms * int64(time.Millisecond) }

// happened makes a line of the first process of a member.
func happened(ms int64, w what, member string, term uint64) line {
	return line{At: at(ms), What: w, Member: member, Run: 1, Term: term}
}

func wrote(ms int64, member string, term uint64, seq int64) line {
	l := happened(ms, committed, member, term)
	l.Seq = seq
	return l
}

// goodHistory is a run in which everything held: a resigns, b transfers to c, c
// is killed, a is frozen and refused twice, b leads to the end.
func goodHistory() history {
	transfer := happened(300, transferred, "b", 5)
	transfer.To = "c"
	return history{
		ledger: []entry{{1, 2, "a"}, {2, 5, "b"}, {3, 7, "c"}, {4, 11, "a"}, {5, 15, "b"}},
		stage: []line{
			happened(100, resigned, "a", 2), transfer, happened(500, killed, "c", 7),
			happened(800, frozen, "a", 11), happened(1200, thawed, "a", 11),
		},
		members: []line{
			happened(10, entered, "a", 2), wrote(20, "a", 2, 1), happened(110, exited, "a", 2),
			happened(150, entered, "b", 5), wrote(160, "b", 5, 2), happened(310, exited, "b", 5),
			happened(380, entered, "c", 7), wrote(390, "c", 7, 3),
			happened(700, entered, "a", 11), wrote(710, "a", 11, 4),
			happened(1000, entered, "b", 15), wrote(1100, "b", 15, 5),
			happened(1210, refused, "a", 11), happened(1220, refused, "a", 11), happened(1230, exited, "a", 11),
			happened(1300, exited, "b", 15),
		},
	}
}

// edit returns a change of the first line for which match holds.
func edit(match func(line) bool, change func(*line)) func(*history) {
	return func(h *history) {
		for _, lines := range [][]line{h.members, h.stage} {
			if i := slices.IndexFunc(lines, match); i >= 0 {
				change(&lines[i])
				return
			}
		}
		panic("no such line")
	}
}

// without drops every line for which match holds.
func without(match func(line) bool) func(*history) {
	return func(h *history) {
		h.members = slices.DeleteFunc(h.members, match)
		h.stage = slices.DeleteFunc(h.stage, match)
	}
}

// is matches what happened to a member in a term.
func is(w what, member string, term uint64) func(line) bool {
	return func(l line) bool { return l.What == w && l.Member == member && l.Term == term }
}

func adding(lines ...line) func(*history) {
	return func(h *history) { h.members = append(h.members, lines...) }
}

func both(first, second func(*history)) func(*history) {
	return func(h *history) { first(h); second(h) }
}

func TestJudgeGoodHistory(t *testing.T) {
	v := judge(goodHistory())
	for _, p := range v.promises {
		if len(p.broken) > 0 {
			t.Errorf("%s: %v", p.sentence, p.broken)
		}
	}
	if len(v.promises) != 6 || v.broken() != 0 {
		t.Errorf("got %d promises, %d of them broken", len(v.promises), v.broken())
	}
	if v.entries != 5 || v.maybes != 0 || v.orphans != 0 || v.refusals != 2 {
		t.Errorf("got %d entries, %d maybes, %d orphans, %d refusals", v.entries, v.maybes, v.orphans, v.refusals)
	}
	want := []struct {
		cue  what
		heir string
		took time.Duration
	}{
		{resigned, "b", 40 * time.Millisecond}, {transferred, "c", 70 * time.Millisecond},
		{killed, "a", 200 * time.Millisecond}, {frozen, "b", 200 * time.Millisecond},
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
	change   func(*history)
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
			for _, p := range judge(h).promises {
				if p.sentence != c.sentence {
					if len(p.broken) > 0 {
						t.Errorf("%s: %v, which was not expected", p.sentence, p.broken)
					}
					continue
				}
				found = slices.ContainsFunc(p.broken, func(f string) bool { return strings.Contains(f, c.finding) })
			}
			if !found {
				t.Errorf("nothing found like %q", c.finding)
			}
		})
	}
}

func TestJudgeHandovers(t *testing.T) {
	checkViolations(t, []violation{
		{"nobody resigned", without(is(resigned, "a", 2)), handedOver, "no leader was resigned"},
		{"nobody transferred", without(is(transferred, "b", 5)), handedOver, "no leader was transferred"},
		{"a cue for a term that was never led in", edit(is(resigned, "a", 2), func(l *line) { l.Term = 3 }),
			handedOver, "a-1 was resigned in term 3, which it never led in"},
		{"nobody followed", edit(is(transferred, "b", 5), func(l *line) { l.Member, l.Term = "b", 15 }),
			handedOver, "nobody led after b-1 was transferred in term 15"},
		{"the same member followed", func(h *history) {
			for _, lines := range [][]line{h.members, h.stage} {
				for i := range lines {
					if lines[i].Member == "b" && lines[i].Term == 5 {
						lines[i].Member = "a"
					}
				}
			}
			h.ledger[1].Member = "a"
		}, handedOver, "a-1 was resigned in term 2, and led on in term 5"},
		{"nobody heeded a nomination", func(h *history) {
			for _, lines := range [][]line{h.members, h.stage} {
				for i := range lines {
					if lines[i].Member == "b" && lines[i].Term == 15 {
						lines[i].Run = 2
					}
					if lines[i].Member == "c" {
						lines[i].Member = "b"
					}
				}
			}
			h.ledger[2].Member = "b"
		}, "", ""},
	})
}

func TestJudgeOverlaps(t *testing.T) {
	checkViolations(t, []violation{
		{"the heir starts early", edit(is(entered, "b", 5), func(l *line) { l.At = at(109) }),
			noOverlap, "a-1 in term 2 and b-1 in term 5 both ran for 1ms"},
		{"on the same instant is no overlap", edit(is(entered, "b", 5), func(l *line) { l.At = at(110) }), "", ""},
		{"while the killed leader still ran", edit(is(killed, "c", 7), func(l *line) { l.At = at(705) }),
			noOverlap, "c-1 in term 7 and a-1 in term 11 both ran for 5ms"},
		{"before the freeze", edit(is(frozen, "a", 11), func(l *line) { l.At = at(1001) }),
			noOverlap, "a-1 in term 11 and b-1 in term 15 both ran for 1ms"},
		{"after its process was killed", adding(happened(1400, entered, "c", 17)),
			noOverlap, "c-1 in term 17 started after its end"},
		{"a kill ends whatever the process does", edit(is(killed, "c", 7), func(l *line) { l.Term = 5; l.Member, l.Run = "c", 1 }),
			handedOver, "c-1 was killed in term 5, which it never led in"},
		{"a frozen leader that had returned before", edit(is(exited, "a", 11), func(l *line) { l.At = at(790) }), "", ""},
		{"a callback that never returned", without(is(exited, "b", 15)), noOverlap, "b-1 in term 15 never returned"},
		{"a long one around a short one", edit(is(exited, "a", 2), func(l *line) { l.At = at(400) }),
			noOverlap, "a-1 in term 2 and b-1 in term 5 both ran for 160ms"},
		{"not only neighbours", edit(is(exited, "a", 2), func(l *line) { l.At = at(400) }),
			noOverlap, "a-1 in term 2 and c-1 in term 7 both ran for 20ms"},
		{"within one process", adding(happened(1290, entered, "b", 17), happened(1310, exited, "b", 17)),
			noOverlap, "b-1 in term 15 and b-1 in term 17 both ran for 10ms"},
	})
}

func TestJudgeTerms(t *testing.T) {
	// another is one more callback at the end, by the process that c was
	// restarted as.
	another := func(term uint64) func(*history) {
		start, end := happened(1400, entered, "c", term), happened(1410, exited, "c", term)
		start.Run, end.Run = 2, 2
		return adding(start, end)
	}
	checkViolations(t, []violation{
		{"one more term", another(17), "", ""},
		{"a term twice", another(15), termsGrow, "c-2 started a second callback in term 15"},
		{"a term that shrinks", another(14), termsGrow, "c-2 started a callback in term 14 after one in term 15"},
		{"no term", another(0), termsGrow, "c-2 carried no term"},
	})
}

func TestJudgeWriters(t *testing.T) {
	insert := func(i int, e entry) func(*history) {
		return func(h *history) {
			h.ledger = slices.Insert(h.ledger, i, e)
			h.members = append(h.members, wrote(500, e.Member, e.Term, e.Seq))
		}
	}
	checkViolations(t, []violation{
		{"another member's term", insert(5, entry{6, 15, "c"}), ledByTerm, "entry 6 of c in term 15: b led in that term"},
		{"nobody's term", insert(5, entry{6, 16, "b"}), ledByTerm, "entry 6 of b in term 16: nobody led in that term"},
		{"no term", insert(5, entry{6, 0, "b"}), ledByTerm, "entry 6 of b in term 0: nobody led in that term"},
		{"behind a later term", insert(5, entry{6, 7, "c"}), ledByTerm, "entry 6 of c in term 7: it stands behind an entry of term 15"},
		{"between entries of a later term", insert(2, entry{6, 2, "a"}), ledByTerm, "it stands behind an entry of term 5"},
		{"an empty ledger", both(func(h *history) { h.ledger = nil },
			without(func(l line) bool { return l.What == committed })), ledByTerm, "nothing was tested"},
	})
}

func TestJudgeMemory(t *testing.T) {
	unsure := happened(395, maybe, "c", 7)
	unsure.Seq = 4
	checkViolations(t, []violation{
		{"an acknowledged entry is missing", adding(wrote(1150, "b", 15, 6)), remembered, "entry 6 of b in term 15: it was acknowledged and is not"},
		{"its sequence is another's", adding(wrote(1150, "b", 15, 4)), remembered, "entry 4 of b in term 15: it was acknowledged and is not"},
		{"acknowledged twice", adding(wrote(1150, "b", 15, 5)), remembered, "entry 5 of b in term 15: it was acknowledged twice"},
		{"an entry that nobody logged", without(is(committed, "b", 15)), remembered, "entry 5 of b in term 15: no log knows of it"},
		{"the killed writer could not log its last one", without(is(committed, "c", 7)), "", ""},
		{"but it had one in hand, not two", both(without(is(committed, "c", 7)), func(h *history) {
			h.ledger = slices.Insert(h.ledger, 3, entry{9, 7, "c"})
		}), remembered, "entry 9 of c in term 7: no log knows of it"},
		{"a failed write that is there", edit(is(committed, "b", 15), func(l *line) { l.What = failed }), remembered, "no log knows of it"},
		{"an unknown outcome that is there", edit(is(committed, "b", 15), func(l *line) { l.What = maybe }), "", ""},
		{"an unknown outcome that is not there", adding(unsure), "", ""},
	})
}

func TestJudgeCountsUnknownOutcomes(t *testing.T) {
	h := goodHistory()
	adding(happened(395, maybe, "c", 7))(&h)
	without(is(committed, "c", 7))(&h)
	if v := judge(h); v.maybes != 1 || v.orphans != 1 {
		t.Errorf("got %d maybes and %d orphans, want 1 and 1", v.maybes, v.orphans)
	}
}

func TestJudgeWoken(t *testing.T) {
	late := wrote(1225, "a", 11, 6)
	lateMaybe := late
	lateMaybe.What = maybe
	checkViolations(t, []violation{
		{"refused nothing", without(is(refused, "a", 11)), wokenHeld, "a-1, woken from term 11, was refused nothing"},
		{"refused before it was woken", both(without(is(refused, "a", 11)), adding(happened(790, refused, "a", 11))),
			wokenHeld, "was refused nothing"},
		{"refused in another term", both(without(is(refused, "a", 11)), adding(happened(1225, refused, "a", 12))),
			wokenHeld, "was refused nothing"},
		{"another member was refused", both(without(is(refused, "a", 11)), adding(happened(1225, refused, "b", 11))),
			wokenHeld, "was refused nothing"},
		{"an unknown outcome", adding(lateMaybe), wokenHeld, "entry 6 of a in term 11: written after its writer was woken"},
		{"woken too early", edit(is(thawed, "a", 11), func(l *line) { l.At = at(999) }), wokenHeld, "before anybody else led"},
		{"nobody was woken", without(is(thawed, "a", 11)), wokenHeld, "no leader was woken"},
		{"freezing is impossible", both(without(func(l line) bool {
			return l.What == frozen || l.What == thawed || l.What == refused
		}), both(
			edit(is(exited, "a", 11), func(l *line) { l.At = at(900) }),
			func(h *history) { h.stage = append(h.stage, line{What: unfreezable}) },
		)), "", ""},
	})
	h := goodHistory()
	h.ledger = append(h.ledger, entry{6, 11, "a"})
	adding(late)(&h)
	if v := judge(h); v.broken() != 2 {
		t.Errorf("a late write that got through broke %d promises, want 2: the ledger's and the woken leader's", v.broken())
	}
}

func TestJudgeWithoutFreezeOrReason(t *testing.T) {
	h := goodHistory()
	without(func(l line) bool { return l.What == frozen })(&h)
	edit(is(exited, "a", 11), func(l *line) { l.At = at(900) })(&h)
	v := judge(h)
	if got := v.promises[0]; got.sentence != handedOver || !slices.Contains(got.broken, "no leader was frozen") {
		t.Errorf("a run that froze nobody, and could have, passes: %v", got)
	}
}

func TestJudgeNothing(t *testing.T) {
	if v := judge(history{}); v.broken() != 3 {
		t.Errorf("an empty history breaks %d promises, want 3: nothing was done, written or refused", v.broken())
	}
}

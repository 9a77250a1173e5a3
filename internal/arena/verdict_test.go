package arena

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var lease = Lease{Duration: 2000 * time.Millisecond, RenewInterval: 300 * time.Millisecond, RenewDeadline: 1400 * time.Millisecond}

func at(ms int64) int64 { return ms * int64(time.Millisecond) }

// happened makes a line of the first process of a member.
func happened(ms int64, w What, member string, term uint64) Line {
	return Line{At: at(ms), What: w, Member: member, Number: 1, Term: term}
}

// tried makes the lines of an attempt, which takes 5 ms.
func tried(ms int64, member string, term uint64, token string, outcome What, seq int64) []Line {
	began, told := happened(ms, Began, member, term), happened(ms+5, outcome, member, term)
	began.Token, told.Token, told.Seq = token, token, seq
	return []Line{began, told}
}

func entry(seq int64, term uint64, member, token string) Entry {
	return Entry{seq, term, Process{member, 1}, token}
}

// goodHistory is a run in which everything held: a returns, b is killed within an
// attempt that is in the ledger, c is frozen at 1000, b's next process leads from 2000
// on, and c is woken at 3000 and refused.
func goodHistory() History {
	last, end := happened(2000, Entered, "b", 15), happened(4000, Exited, "b", 15)
	last.Number, end.Number = 2, 2
	orphan := happened(450, Began, "b", 5)
	orphan.Token = "b/2"
	return History{
		Ledger: []Entry{entry(1, 2, "a", "a/1"), entry(2, 5, "b", "b/1"), entry(4, 5, "b", "b/2"), entry(5, 7, "c", "c/1"), entry(6, 7, "c", "c/2")},
		Stage:  []Line{happened(500, Killed, "b", 5), happened(1000, Frozen, "c", 7), happened(3000, Thawed, "c", 7)},
		Members: slices.Concat(
			[]Line{happened(10, Entered, "a", 2)}, tried(20, "a", 2, "a/1", Committed, 1), tried(50, "a", 2, "a/2", Failed, 0),
			[]Line{happened(110, Exited, "a", 2)},
			[]Line{happened(150, Entered, "b", 5)}, tried(160, "b", 5, "b/1", Committed, 2), []Line{orphan},
			[]Line{happened(700, Entered, "c", 7)}, tried(710, "c", 7, "c/1", Committed, 5),
			tried(720, "c", 7, "c/2", Unknown, 6), tried(730, "c", 7, "c/3", Unknown, 7),
			[]Line{last, happened(3010, Exited, "c", 7)}, tried(3020, "c", 7, "c/4", Refused, 0), []Line{end},
		),
	}
}

func TestJudgeGoodHistory(t *testing.T) {
	v := Judge(goodHistory(), lease)
	if v.Broken() != 0 || v.Violations() != 0 || len(v.Promises) != 4 {
		t.Errorf("got %+v", v.Promises)
	}
	got := []int{v.Entries, v.Refusals, v.Unknowns, v.Landed, v.Orphans, v.Failures, v.Overlaps}
	if want := []int{5, 1, 2, 1, 1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	if c := v.Reigns[2]; c.Cut != at(1000) || c.To != at(3010) {
		t.Errorf("the reign of a frozen leader is %+v", c)
	}
}

// edit changes the n-th line that says so of a member.
func edit(w What, member string, n int, change func(*Line)) func(*History) {
	return func(h *History) {
		for _, lines := range [][]Line{h.Members, h.Stage} {
			for i := range lines {
				if l := &lines[i]; l.What == w && l.Member == member {
					if n--; n == 0 {
						change(l)
						return
					}
				}
			}
		}
		panic("no such line")
	}
}

func moved(w What, member string, n int, ms int64) func(*History) {
	return edit(w, member, n, func(l *Line) { l.At = at(ms) })
}

func gone(w What, member string, n int) func(*History) {
	return edit(w, member, n, func(l *Line) { l.What = Joined })
}

func adding(lines ...Line) func(*History) {
	return func(h *History) { h.Members = append(h.Members, lines...) }
}

func writing(i int, e Entry) func(*History) {
	return func(h *History) {
		h.Ledger = slices.Insert(h.Ledger, i, e)
		began, told := Line{At: at(460), What: Began}, Line{At: at(461), What: Committed, Seq: e.Seq}
		for _, l := range []*Line{&began, &told} {
			l.Member, l.Number, l.Term, l.Token = e.Member, e.Number, e.Term, e.Token
		}
		h.Members = append(h.Members, began, told)
	}
}

func all(changes ...func(*History)) func(*History) {
	return func(h *History) {
		for _, change := range changes {
			change(h)
		}
	}
}

// violation is a change of the good history, the promise that it breaks alone (or
// none) and a part of what is found.
type violation struct {
	name    string
	change  func(*History)
	finding string
}

func checkViolations(t *testing.T, sentence string, violations []violation) {
	t.Helper()
	for _, c := range violations {
		t.Run(c.name, func(t *testing.T) {
			h := goodHistory()
			c.change(&h)
			v := Judge(h, lease)
			found := v.Against(sentence)
			if c.finding == "" && len(found) > 0 || c.finding != "" &&
				!slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, c.finding) }) {
				t.Errorf("found %q, want %q", found, c.finding)
			}
			if v.Violations() > len(found) {
				t.Errorf("more is broken than that: %+v", v.Promises)
			}
		})
	}
}

func TestJudgeOverlaps(t *testing.T) {
	stalled := happened(3001, Stalled, "c", 7)
	stalled.For = at(2001)
	checkViolations(t, NoOverlap, []violation{
		{"the next starts early", moved(Entered, "b", 1, 109), "a-1 in term 2 and b-1 in term 5 both ran for 1ms"},
		{"on the same instant is no overlap", moved(Entered, "b", 1, 110), ""},
		{"while the killed leader still ran", moved(Entered, "c", 1, 495), "b-1 in term 5 and c-1 in term 7 both ran for 5ms"},
		{"before the freeze", moved(Frozen, "c", 1, 2001), "c-1 in term 7 and b-2 in term 15 both ran for 1.01s"},
		{"not frozen at all", all(gone(Frozen, "c", 1), gone(Thawed, "c", 1)), "c-1 in term 7 and b-2 in term 15 both ran"},
		{"frozen for a moment", moved(Frozen, "c", 1, 2900), "c-1 in term 7 and b-2 in term 15 both ran"},
		{"stalled, as it knows itself", all(gone(Frozen, "c", 1), gone(Thawed, "c", 1), adding(stalled)), ""},
		{"woken, and within the margin", moved(Exited, "c", 1, 3600), ""},
		{"woken, and runs on", moved(Exited, "c", 1, 3601), "c-1 in term 7 and b-2 in term 15 both ran for 1.601s"},
		{"another process was frozen", edit(Frozen, "c", 1, func(l *Line) { l.Number = 2 }), "c-1 in term 7 and b-2 in term 15 both ran"},
		{"after its process was killed", adding(happened(4400, Entered, "b", 17)), "b-1 in term 17 started after its end"},
		{"a callback that never returned", gone(Exited, "b", 1), "b-2 in term 15 never returned"},
		{"a long one around a short one", moved(Exited, "a", 1, 400), "a-1 in term 2 and b-1 in term 5 both ran for 250ms"},
		{"not only neighbours", moved(Exited, "a", 1, 720), "a-1 in term 2 and c-1 in term 7 both ran for 20ms"},
		{"within one process", all(moved(Exited, "a", 1, 109), adding(happened(100, Entered, "a", 4), happened(120, Exited, "a", 4))),
			"a-1 in term 2 and a-1 in term 4 both ran for 9ms"},
	})
}

func TestJudgeTerms(t *testing.T) {
	another := func(term uint64) func(*History) {
		return adding(happened(4100, Entered, "a", term), happened(4110, Exited, "a", term))
	}
	checkViolations(t, TermsGrow, []violation{
		{"one more term", another(17), ""},
		{"a term twice", another(15), "a-1 started a second callback in term 15"},
		{"a term that shrinks", another(14), "a-1 started a callback in term 14 after one in term 15"},
		{"no term", another(0), "a-1 carried no term"},
	})
}

func TestJudgeWriters(t *testing.T) {
	checkViolations(t, LedByTerm, []violation{
		{"another member's term", writing(5, entry(8, 15, "c", "c/8")), "entry 8 of c-1 in term 15 (c/8): b-2 led in that term"},
		{"another process's term", writing(5, entry(8, 15, "b", "b/8")), "entry 8 of b-1 in term 15 (b/8): b-2 led in that term"},
		{"nobody's term", writing(5, entry(8, 16, "b", "b/8")), "nobody led in that term"},
		{"no term", writing(5, entry(8, 0, "b", "b/8")), "nobody led in that term"},
		{"behind a later term", writing(5, entry(8, 2, "a", "a/8")), "entry 8 of a-1 in term 2 (a/8): it stands behind an entry of term 7"},
		{"between entries of a later term", writing(2, entry(3, 2, "a", "a/8")), "it stands behind an entry of term 5"},
		{"an empty ledger", func(h *History) {
			h.Ledger = nil
			h.Members = slices.DeleteFunc(h.Members, func(l Line) bool { return l.Token != "" })
		}, "nothing was tested"},
	})
}

func TestJudgeMemory(t *testing.T) {
	token := func(i int, token string) func(*History) { return func(h *History) { h.Ledger[i].Token = token } }
	checkViolations(t, Remembered, []violation{
		{"an acknowledged entry is missing", func(h *History) { h.Ledger = h.Ledger[1:] }, "a/1 was acknowledged, and is not in the ledger"},
		{"its number is another's", func(h *History) { h.Ledger[1].Seq = 3 }, "it was acknowledged as entry 2"},
		{"acknowledged twice", adding(tried(170, "b", 5, "b/1", Committed, 2)[1]), "b/1 began 1 times, and had 2 outcomes"},
		{"begun twice", adding(tried(170, "b", 5, "b/1", Committed, 2)[0]), "b/1 began 2 times, and had 1 outcomes"},
		{"acknowledged and never begun", adding(tried(170, "b", 5, "b/9", Committed, 9)[1]), "b/9 began 0 times"},
		{"one more entry", writing(2, entry(3, 5, "b", "b/9")), ""},
		{"an entry that nobody began", token(2, "b/9"), "entry 4 of b-1 in term 5 (b/9): no log knows of it"},
		{"an entry of another's attempt", token(2, "a/2"), "entry 4 of b-1 in term 5 (a/2): no log knows of it"},
		{"an entry of another term of its writer", func(h *History) {
			adding(happened(120, Entered, "b", 4), happened(130, Exited, "b", 4))(h)
			h.Ledger[1].Term = 4
		}, "entry 2 of b-1 in term 4 (b/1): no log knows of it"},
		{"an entry that is there twice", token(2, "b/1"), "its token is in the ledger twice"},
		{"a refused entry that is there", token(4, "c/4"), "its writer was told: refused"},
		{"a failed entry that is there", token(0, "a/2"), "its writer was told: failed"},
		{"an unknown outcome that is there", token(4, "c/3"), ""},
		{"an unknown outcome that is not there", func(h *History) { h.Ledger = h.Ledger[:4] }, ""},
		{"the killed writer wrote nothing", func(h *History) { h.Ledger = slices.Delete(h.Ledger, 2, 3) }, ""},
		{"an attempt that never returned", gone(Refused, "c", 1), "c/4 never returned"},
	})
}

func TestJudgeNothing(t *testing.T) {
	if v := Judge(History{}, lease); v.Broken() != 1 {
		t.Errorf("an empty history breaks %d promises, want 1: nothing was written", v.Broken())
	}
}

func TestPromiseIsPrinted(t *testing.T) {
	var out strings.Builder
	for _, p := range []Promise{{"all is well", nil}, {"nothing is wrong", []string{"one", "two", "three"}}} {
		p.Print(&out, 2)
	}
	const want = "  ok    all is well\n  FAIL  nothing is wrong\n          one\n          two\n          … and 1 more\n"
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

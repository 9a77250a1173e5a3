package demo

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sqlelect/election/internal/arena"
)

func TestVerdictIsPrinted(t *testing.T) {
	h := goodHistory()
	without(is(arena.Committed, "c", 7))(&h)
	var out strings.Builder
	if err := judge(h).print(&out); err != nil {
		t.Fatal(err)
	}
	const want = `
verdict, from the ledger and the log files

  resigned     a → b  term   2 → 5     0.040 s
  transferred  b → c  term   5 → 7     0.070 s  asked for c
  killed       c → a  term   7 → 11    0.200 s  expected within 2.3s
  frozen       a → b  term  11 → 15    0.200 s  expected within 2.3s

  entries      5, 0 of unknown outcome (maybe)
  unlogged     1, written by a process that was killed before it could log it
  refused      2 late writes of the woken leader

  ok    after every resignation, transfer, kill and freeze somebody else led
  ok    no two leader callbacks overlapped
  ok    terms only grew, and no term had two callbacks
  ok    every ledger entry was written by a leader, in its term
  ok    the ledger holds every acknowledged entry, and no unknown one
  ok    every write of a woken leader was refused

ok: every promise held
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func TestBrokenPromiseIsPrinted(t *testing.T) {
	var v verdict
	v.Add("all is well", nil)
	v.Add("nothing is wrong", nil)
	for i := range mostBroken + 2 {
		v.Promises[1].Broken = append(v.Promises[1].Broken, fmt.Sprintf("finding %d", i))
	}
	var out strings.Builder
	if err := v.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  ok    all is well\n", "  FAIL  nothing is wrong\n", "finding 4\n", "… and 2 more\n",
		"FAIL: 1 of 2 promises did not hold\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "finding 5") {
		t.Error("more findings than a screen holds")
	}
}

package demo

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func sampleBoard() board {
	return board{
		elapsed: 12300 * time.Millisecond, step: "2/6  the leader resigns", entries: 42, term: 7,
		leader: "a", steady: 1500 * time.Millisecond,
		rows: []row{
			{member: "a", state: "leader", leads: true, term: 7, trust: lease.RenewDeadline / 2, sees: "a b", written: 40, refused: 1},
			{member: "b", state: "frozen", term: 3, written: 2},
			{member: "c", state: "follower", sees: "a b"},
		},
	}
}

func TestRender(t *testing.T) {
	v := &screen{}
	v.facts = []string{"too old", "first fact", "second fact"}
	got := v.render(sampleBoard(), 100, 2)
	want := []string{
		"election demo                                                   12.3 s",
		"",
		"    member  state     term  trust left                     wrote  refused  sees",
		"  ★ a       leader       7  ██████████░░░░░░░░░░  0.70 s      40        1  a b",
		"    b       frozen       3  ░░░░░░░░░░░░░░░░░░░░  0.00 s       2        0  ",
		"    c       follower                                           0        0  a b",
		"",
		"  leader    a for 1.5 s",
		"  ledger    42 entries, newest term 7",
		"",
		"  step 2/6  the leader resigns",
		"",
		"first fact",
		"second fact",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if len(want)-2 > boardHeight {
		t.Errorf("%d lines beside the facts, boardHeight is %d", len(want)-2, boardHeight)
	}
}

func TestRenderFitsNarrowTerminals(t *testing.T) {
	for _, colour := range []bool{false, true} {
		v := &screen{colour: colour, facts: []string{strings.Repeat("long ", 50)}}
		for _, width := range []int{1, 20, 60, 79} {
			for _, text := range v.render(sampleBoard(), width, 5) {
				if n := columns(text); n > width {
					t.Errorf("%d columns on a terminal of %d: %q", n, width, text)
				}
				if strings.Contains(text, "\x1b[") && !strings.HasSuffix(text, "\x1b[0m") {
					t.Errorf("the style of %q goes on on the next line", text)
				}
			}
		}
	}
}

// columns counts what a terminal shows of text.
func columns(text string) int {
	n := utf8.RuneCountInString(text)
	for _, style := range strings.Split(text, "\x1b")[1:] {
		n -= 2 + strings.IndexByte(style, 'm')
	}
	return n
}

func TestDrawGoesOverTheLastBoard(t *testing.T) {
	var out strings.Builder
	v := &screen{out: &out, size: func() (int, int, bool) { return 80, 40, true }}
	v.draw(sampleBoard())
	first := strings.Count(out.String(), "\n")
	v.tell(time.Second, "something new")
	out.Reset()
	v.draw(sampleBoard())
	if up := fmt.Sprintf("\x1b[%dA\r", first+1); !strings.HasPrefix(out.String(), up) {
		t.Errorf("the next frame begins with %q, want %q", out.String()[:10], up)
	}
	if !strings.Contains(out.String(), "   1.00s  something new\x1b[K\n") || !strings.HasSuffix(out.String(), "\x1b[J") {
		t.Errorf("got %q", out.String())
	}
}

func TestScreenNeverOutgrowsTheTerminal(t *testing.T) {
	var out strings.Builder
	v := &screen{out: &out, size: func() (int, int, bool) { return 80, 20, true }}
	for range 2 * factsKept {
		v.tell(0, "another fact")
	}
	v.draw(sampleBoard())
	if v.drawn >= 20 {
		t.Errorf("%d lines drawn on 20: the topmost one cannot be reached again", v.drawn)
	}
}

func TestCursorComesBack(t *testing.T) {
	var out strings.Builder
	v := &screen{out: &out, size: func() (int, int, bool) { return 0, 0, false }}
	v.scene("a step")
	v.close(sampleBoard())
	if text := out.String(); strings.Count(text, "\x1b[?25l") != 1 || !strings.HasSuffix(text, "\x1b[?25h") {
		t.Errorf("got %q", text)
	}
}

func TestLines(t *testing.T) {
	var out strings.Builder
	v := newView(&out)
	v.scene("1/6  a step")
	v.tell(1234*time.Millisecond, "a fact")
	v.draw(sampleBoard())
	v.close(sampleBoard())
	if want := "\n1/6  a step\n   1.23s  a fact\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

package demo

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	barWidth  = 20
	factsKept = 12
	// boardHeight is how many lines a board takes beside the facts.
	boardHeight = 14
)

// screen is a view that redraws a board in place on a terminal. It asks for the size at each frame,
// because a window may be resized.
type screen struct {
	out    io.Writer
	size   func() (width, height int, ok bool)
	colour bool

	facts []string
	last  board
	drawn int // lines on the screen
}

func (v *screen) scene(title string) {
	v.last.step = title
	v.draw(v.last)
}

func (v *screen) tell(elapsed time.Duration, fact string) {
	v.facts = append(v.facts, timed(elapsed, fact))
	v.facts = v.facts[max(0, len(v.facts)-factsKept):]
	v.draw(v.last)
}

// draw writes the whole board in one go, over the one before: each line is cleared behind its text
// and the screen beneath the last one, so that nothing flickers. An error of the terminal is
// dropped: the demo and its verdict do not depend on who watches.
func (v *screen) draw(b board) {
	v.last = b
	width, height, ok := v.size()
	// The terminal does not tell its size any more.
	if !ok {
		width, height = 80, 24
	}
	var frame strings.Builder
	if v.drawn > 0 {
		// Go up to the first line of the frame before.
		fmt.Fprintf(&frame, "\x1b[%dA\r", v.drawn)
	} else {
		frame.WriteString("\x1b[?25l") // hide the cursor
	}
	content := v.render(b, width, max(1, height-boardHeight))
	for _, text := range content {
		frame.WriteString(text)
		frame.WriteString("\x1b[K\n")
	}
	frame.WriteString("\x1b[J")
	_, _ = io.WriteString(v.out, frame.String())
	v.drawn = len(content)
}

// close leaves the last board in sight, and the verdict is printed beneath it.
func (v *screen) close(b board) {
	v.draw(b)
	_, _ = io.WriteString(v.out, "\x1b[?25h") // show the cursor
}

// render returns the lines of a board, none wider than width, with the newest facts beneath them:
// at most the given number.
func (v *screen) render(b board, width, facts int) []string {
	content := []string{
		v.bold(fmt.Sprintf("election demo%57s", fmt.Sprintf("%.1f s", b.elapsed.Seconds()))),
		"",
		v.faint("    member  state     term  trust left                     wrote  refused  sees"),
	}
	for _, r := range b.rows {
		content = append(content, v.member(r))
	}
	content = append(content, "",
		fmt.Sprintf("  leader    %s for %.1f s", cmp.Or(b.leader, "nobody"), b.steady.Seconds()),
		fmt.Sprintf("  ledger    %d entries, newest term %d", b.entries, b.term), "")
	if b.step != "" {
		content = append(content, "  step "+v.bold(b.step), "")
	}
	for _, fact := range v.facts[max(0, len(v.facts)-facts):] {
		content = append(content, v.faint(fact))
	}
	for i, text := range content {
		content[i] = clip(text, width)
	}
	return content
}

// member is the line of one member: green if the stage has heard that it leads, red if it was
// frozen or killed.
func (v *screen) member(r row) string {
	mark, term, bar := " ", "", strings.Repeat(" ", barWidth+8)
	if r.leads {
		mark = "★"
	}
	if r.term > 0 {
		// The bar is rounded up: it is empty only if no trust is left.
		full := min(barWidth, int((r.trust*barWidth+lease.RenewDeadline-1)/lease.RenewDeadline))
		term = fmt.Sprint(r.term)
		bar = strings.Repeat("█", full) + strings.Repeat("░", barWidth-full) + fmt.Sprintf(" %5.2f s", r.trust.Seconds())
	}
	text := fmt.Sprintf("  %s %-7s %-9s %4s  %s  %6d  %7d  %s", mark, r.member, r.state, term, bar, r.written, r.refused, r.sees)
	switch {
	case r.leads:
		return v.style("32;1", text)
	case r.state == "frozen", r.state == "killed":
		return v.style("31", text)
	}
	return text
}

func (v *screen) bold(text string) string  { return v.style("1", text) }
func (v *screen) faint(text string) string { return v.style("2", text) }

// style puts text between the escape sequences of a style, unless the viewer wants no colours.
func (v *screen) style(code, text string) string {
	if !v.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// clip cuts text down to width columns. A line that wraps would take two lines of the screen, and
// the next frame would begin too low. Styles take no column.
func clip(text string, width int) string {
	columns, styled := 0, false
	for i := 0; i < len(text); {
		c, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case c == '\x1b':
			end := strings.IndexByte(text[i:], 'm')
			styled, size = true, end+1
		case columns == width:
			if styled {
				return text[:i] + "\x1b[0m"
			}
			return text[:i]
		default:
			columns++
		}
		i += size
	}
	return text
}

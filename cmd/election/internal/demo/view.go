package demo

import (
	"fmt"
	"io"
	"os"
	"time"
)

// view shows a run to whoever watches it. It gets what the stage has heard, and decides nothing.
type view interface {
	scene(title string)                      // a step of the script begins
	tell(elapsed time.Duration, fact string) // something has happened
	draw(b board)                            // how things stand, several times a second
	close(b board)                           // the run is over: leave the last state in sight
}

// board is how things stand.
type board struct {
	elapsed time.Duration
	step    string        // "" when the script is over
	leader  string        // "" when nobody leads
	steady  time.Duration // for how long that is so
	rows    []row
	entries int
	term    uint64 // the newest one heard of
}

// row is one member on the board.
type row struct {
	member  string
	state   string
	leads   bool
	term    uint64        // in which it believes that it leads
	trust   time.Duration // how long it may go on believing so
	sees    string        // the members it sees
	written int
	refused int
}

// newView draws on a terminal and prints lines on anything else, such as a file or a pipe. NO_COLOR
// takes the colours away, as in other programs.
func newView(out io.Writer) view {
	file, ok := out.(*os.File)
	if !ok {
		return lines{out}
	}
	if _, _, ok := terminalSize(file); !ok {
		return lines{out}
	}
	colour := os.Getenv("NO_COLOR") == ""
	return &screen{out: out, size: func() (int, int, bool) { return terminalSize(file) }, colour: colour}
}

// lines is a view of plain lines, one for each event.
type lines struct{ out io.Writer }

func (v lines) scene(title string) { fmt.Fprintf(v.out, "\n%s\n", title) }

func (v lines) tell(elapsed time.Duration, fact string) {
	fmt.Fprintf(v.out, "%s\n", timed(elapsed, fact))
}

// draw and close print nothing: a board several times a second would bury the events.
func (lines) draw(board) {}

func (lines) close(board) {}

func timed(elapsed time.Duration, fact string) string {
	return fmt.Sprintf("%7.2fs  %s", elapsed.Seconds(), fact)
}

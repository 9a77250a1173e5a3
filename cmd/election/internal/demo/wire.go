package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sqlelect/election"
)

// report is what a member tells the stage, as a line of JSON on its standard
// output. Exactly one field is set.
type report struct {
	Line   *line   `json:",omitempty"` // was just written to the log
	Status *status `json:",omitempty"`
	Answer *answer `json:",omitempty"`
}

// status is what a member knows of the election right now.
type status struct {
	State     election.State
	Term      uint64        // of the leadership it observes
	TrustLeft time.Duration // 0 unless it leads
	Sees      []string      // the live members
}

// answer says how a cue went.
type answer struct {
	Cue string // its verb
	Err string // "" if it was done
}

// reporter writes reports to the stage.
type reporter struct {
	mu  sync.Mutex
	out *json.Encoder
}

func newReporter(w io.Writer) *reporter { return &reporter{out: json.NewEncoder(w)} }

// send drops the report if the stage is gone: the closed standard input is
// what tells a member to end.
func (r *reporter) send(rep report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.out.Encode(rep)
}

// cue is what the stage asks of a member, as a line of words on its standard
// input. Each is answered, once it is done or known to be impossible. All but
// open are for the leader of a term, and are declined by anybody else.
type cue struct {
	verb string
	term uint64
	arg  string
}

const (
	cueResign   = "resign"   // arg: for how long
	cueTransfer = "transfer" // arg: to whom
	cueHold     = "hold"     // take the gate: no database call is under way from now on
	cueOpen     = "open"     // leave the gate
)

func (c cue) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %d %s", c.verb, c.term, c.arg))
}

func parseCue(text string) (cue, error) {
	words := strings.Fields(text)
	if len(words) < 2 || len(words) > 3 {
		return cue{}, fmt.Errorf("malformed cue %q", text)
	}
	term, err := strconv.ParseUint(words[1], 10, 64)
	if err != nil {
		return cue{}, fmt.Errorf("malformed cue %q: %w", text, err)
	}
	return cue{words[0], term, strings.Join(words[2:], "")}, nil
}

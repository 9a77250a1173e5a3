package demo

import (
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/arena"
)

// report is what a member tells the stage, as a line of JSON on its standard
// output. Exactly one field is set.
type report struct {
	Line   *arena.Line `json:",omitempty"` // was just written to the log
	Status *status     `json:",omitempty"`
}

// status is what a member knows of the election right now.
type status struct {
	State     election.State
	Term      uint64        // of the leadership it observes
	TrustLeft time.Duration // 0 unless it leads
	Sees      []string      // the live members
}

// reporter writes reports to the stage.
type reporter struct {
	mu  sync.Mutex
	out *json.Encoder
}

func newReporter(w io.Writer) *reporter { return &reporter{out: json.NewEncoder(w)} }

// send drops the report if the stage is gone: the closed standard input is what tells a member to
// end.
func (r *reporter) send(rep report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.out.Encode(rep)
}

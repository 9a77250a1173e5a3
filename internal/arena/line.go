package arena

import "fmt"

// Process is one process of one member.
type Process struct {
	Member string
	Number int // 1 for a member's first process, 2 after a restart
}

// String is the member's ID and the number.
func (p Process) String() string { return fmt.Sprintf("%s-%d", p.Member, p.Number) }

// What names the happening that a line of a log tells of. A plan has more of them,
// for what its stage does.
type What string

// What members write down.
const (
	Joined    What = "joined"    // first renewal acknowledged
	Entered   What = "entered"   // the leader callback started
	Exited    What = "exited"    // the leader callback is about to return
	Ceased    What = "ceased"    // the writers of a reign have ended, which may be later
	Began     What = "began"     // an attempt to append an entry
	Committed What = "committed" // the attempt's outcome: the entry is in the ledger
	Refused   What = "refused"   // … the guard turned it down
	Unknown   What = "unknown"   // … COMMIT was sent and failed: the entry may be there
	Failed    What = "failed"    // … it was not written, for another reason
	Asked     What = "asked"     // a cue was done, or could not be
	Stalled   What = "stalled"   // the process did not run For, up to now
	Troubled  What = "troubled"  // the elector reports an error
	Left      What = "left"      // RunElection has returned, and all attempts have
)

// What every stage writes down.
const (
	Killed What = "killed" // with SIGKILL; the process has ended
	Frozen What = "frozen" // with SIGSTOP
	Thawed What = "thawed" // with SIGCONT
)

// Line is one line of a log.
type Line struct {
	At     int64  `json:"at"` // as Now has it
	What   What   `json:"what"`
	Member string `json:"member,omitempty"`
	Number int    `json:"number,omitempty"` // of the member's process
	Term   uint64 `json:"term,omitempty"`
	Token  string `json:"token,omitempty"` // of an attempt
	Seq    int64  `json:"seq,omitempty"`   // of its entry, if it took a number
	Cue    string `json:"cue,omitempty"`   // Asked: the verb
	To     string `json:"to,omitempty"`    // the heir that a transfer named
	For    int64  `json:"for,omitempty"`   // nanoseconds
	Wall   int64  `json:"wall,omitempty"`  // the wall clock at that moment, Unix nanoseconds
	Fault  string `json:"fault,omitempty"` // its name
	Err    string `json:"err,omitempty"`
}

// Process says whose line it is.
func (l Line) Process() Process { return Process{l.Member, l.Number} }

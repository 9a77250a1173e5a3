package arena

import (
	"fmt"
	"strconv"
	"strings"
)

// Cue is what the stage asks of a member, as a line of words on its standard
// input. The member writes down an Asked line when the cue is done or known to be
// impossible.
type Cue struct {
	Verb string
	Term uint64 // only the leader of this term shall do it; 0: whoever hears it
	Arg  string
}

// The cues that every member knows. A plan may have more.
const (
	Resign   = "resign"   // Arg: for how long
	Transfer = "transfer" // Arg: to whom
)

// String is the line, as ParseCue reads it.
func (c Cue) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %d %s", c.Verb, c.Term, c.Arg))
}

// ParseCue reads a cue back from its line.
func ParseCue(text string) (Cue, error) {
	words := strings.Fields(text)
	if len(words) < 2 || len(words) > 3 {
		return Cue{}, fmt.Errorf("malformed cue %q", text)
	}
	term, err := strconv.ParseUint(words[1], 10, 64)
	if err != nil {
		return Cue{}, fmt.Errorf("malformed cue %q: %w", text, err)
	}
	return Cue{words[0], term, strings.Join(words[2:], "")}, nil
}

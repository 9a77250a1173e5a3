package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sqlelect/election/internal/arena"
)

// mostBroken is how many findings of one promise are printed in full.
const mostBroken = 5

// print writes the verdict for people: how long each hand-over took, what was written and refused,
// and each promise with what speaks against it. Its last line says whether every promise held.
func (v verdict) print(out io.Writer) error {
	var b strings.Builder
	b.WriteString("\nverdict, from the ledger and the log files\n\n")
	for _, h := range v.handovers {
		fmt.Fprintf(&b, "  %-12s %s\n", h.cue.What, h)
	}
	fmt.Fprintf(&b, "\n  %-12s %d, %d of unknown outcome (maybe)\n", "entries", v.Entries, v.Unknowns)
	// Only a killed process has such entries, and often it has none.
	if v.Orphans > 0 {
		fmt.Fprintf(&b, "  %-12s %d, written by a process that was killed before it could log it\n", "unlogged", v.Orphans)
	}
	fmt.Fprintf(&b, "  %-12s %d late writes of the woken leader\n\n", "refused", v.lateRefusals)
	for _, p := range v.Promises {
		p.Print(&b, mostBroken)
	}
	if broken := v.Broken(); broken > 0 {
		fmt.Fprintf(&b, "\nFAIL: %d of %d promises did not hold\n", broken, len(v.Promises))
	} else {
		b.WriteString("\nok: every promise held\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (h handover) String() string {
	text := fmt.Sprintf("%s → %s  term %3d → %-3d  %6.3f s", h.cue.Member, h.heir, h.cue.Term, h.heirTerm, h.took.Seconds())
	switch h.cue.What {
	case transferred:
		text += "  asked for " + h.cue.To
	case arena.Killed, arena.Frozen:
		// The others take over a lease after they saw the last renewal, which is at their next
		// poll.
		text += fmt.Sprintf("  expected within %v", (lease.Duration + lease.RenewInterval).Round(time.Millisecond))
	}
	return text
}

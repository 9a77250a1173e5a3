package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// mostBroken is how many findings of one promise are printed in full.
const mostBroken = 5

// print writes the verdict for people.
func (v verdict) print(out io.Writer) error {
	var b strings.Builder
	b.WriteString("\nverdict, from the ledger and the log files\n\n")
	for _, h := range v.handovers {
		fmt.Fprintf(&b, "  %-12s %s\n", h.cue.What, h)
	}
	fmt.Fprintf(&b, "\n  %-12s %d, %d of unknown outcome (maybe)\n", "entries", v.entries, v.maybes)
	if v.orphans > 0 {
		fmt.Fprintf(&b, "  %-12s %d, written by a process that was killed before it could log it\n", "unlogged", v.orphans)
	}
	fmt.Fprintf(&b, "  %-12s %d late writes of the woken leader\n\n", "refused", v.refusals)
	for _, p := range v.promises {
		p.print(&b)
	}
	if broken := v.broken(); broken > 0 {
		fmt.Fprintf(&b, "\nFAIL: %d of %d promises did not hold\n", broken, len(v.promises))
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
	case killed, frozen:
		// The lease counts from the last renewal that the others saw.
		text += fmt.Sprintf("  expected within %v", (leaseDuration + renewInterval).Round(time.Millisecond))
	}
	return text
}

func (p promise) print(b *strings.Builder) {
	mark := "ok  "
	if len(p.broken) > 0 {
		mark = "FAIL"
	}
	fmt.Fprintf(b, "  %s  %s\n", mark, p.sentence)
	for _, finding := range p.broken[:min(len(p.broken), mostBroken)] {
		fmt.Fprintf(b, "          %s\n", finding)
	}
	if more := len(p.broken) - mostBroken; more > 0 {
		fmt.Fprintf(b, "          … and %d more\n", more)
	}
}

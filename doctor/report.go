package doctor

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Verdict is the result of a check, from good to bad. A worse one is greater, but Skipped is not
// worse than OK.
type Verdict int

const (
	// OK means that all is as it has to be.
	OK Verdict = iota
	// Skipped means that the check does not apply or could not be made. Check.Seen says why.
	Skipped
	// Warning means that a promise depends on more than it should, or that members are slower than
	// they could be.
	Warning
	// Failure means that elections do not work here, or that a promise does not hold.
	Failure
)

// String is the verdict in one lower-case word.
func (v Verdict) String() string {
	switch v {
	case OK:
		return "ok"
	case Skipped:
		return "skipped"
	case Warning:
		return "warning"
	case Failure:
		return "failure"
	}
	return fmt.Sprintf("verdict %d", int(v))
}

// MarshalText implements encoding.TextMarshaler, by String. The error is always nil.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Check is one thing that was examined.
type Check struct {
	// Name says what was examined, and stays the same from version to version.
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Tried and Seen say what was done, and what came of it.
	Tried string `json:"tried"`
	Seen  string `json:"seen"`
	// Means says what follows from it, and Do what helps. Both are empty if all is well.
	Means string `json:"means,omitempty"`
	Do    string `json:"do,omitempty"`
	// Took is how long the check took.
	Took time.Duration `json:"took_ns"`
}

// Report is what Examine has found.
type Report struct {
	// Engine is the database product, or "" if it was not recognized. Version is what the server
	// says of its version.
	Engine  string `json:"engine"`
	Version string `json:"version"`
	// Table is the table of the elections. Scratch says where trials were made.
	Table   string `json:"table"`
	Scratch string `json:"scratch"`
	// Checks are in the order in which they were made.
	Checks []Check `json:"checks"`
}

// Verdict is the worst verdict of all checks. Skipped checks do not count, so OK means that nothing
// is known to be wrong.
func (r Report) Verdict() Verdict {
	worst := OK
	for _, c := range r.Checks {
		if c.Verdict > worst && c.Verdict != Skipped {
			worst = c.Verdict
		}
	}
	return worst
}

// Find returns the check of that name and whether there is one.
func (r Report) Find(name string) (Check, bool) {
	for _, c := range r.Checks {
		if c.Name == name {
			return c, true
		}
	}
	return Check{}, false
}

// Err returns nil if no check is worse than atMost. Otherwise the error names each check that is.
// Skipped checks do not count. A service that starts needs Err(Warning): it reports failures alone.
func (r Report) Err(atMost Verdict) error {
	var errs []error
	for _, c := range r.Checks {
		if c.Verdict > atMost && c.Verdict > Skipped {
			errs = append(errs, fmt.Errorf("doctor: %v: %s: %s: %s", c.Verdict, c.Name, c.Seen, c.Means))
		}
	}
	return errors.Join(errs...)
}

// count is how many checks came to v.
func (r Report) count(v Verdict) (n int) {
	for _, c := range r.Checks {
		if c.Verdict == v {
			n++
		}
	}
	return n
}

// String is a table of several lines for people.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "database  %s\ntable     %s\ntried in  %s\n\n", strings.TrimSpace(r.Engine+" "+r.Version), r.Table, r.Scratch)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "VERDICT\tCHECK\tTRIED\tSEEN\n")
	for _, c := range r.Checks {
		fmt.Fprintf(table, "%v\t%s\t%s\t%s\n", c.Verdict, c.Name, oneLine(c.Tried), oneLine(c.Seen))
	}
	_ = table.Flush() // into memory
	r.explain(&b)
	fmt.Fprintf(&b, "\n%d ok, %d skipped, %d warnings, %d failures\n",
		r.count(OK), r.count(Skipped), r.count(Warning), r.count(Failure))
	return b.String()
}

// explain writes what follows from each check that found something, failures first.
func (r Report) explain(b *strings.Builder) {
	for _, v := range []Verdict{Failure, Warning} {
		for _, c := range r.Checks {
			if c.Verdict == v {
				fmt.Fprintf(b, "\n%v: %s\n", c.Verdict, c.Name)
				paragraph(b, "seen", c.Seen)
				paragraph(b, "means", c.Means)
				paragraph(b, "do", c.Do)
			}
		}
	}
}

// paragraph writes text under a label, in lines of a readable length.
func paragraph(b *strings.Builder, label, text string) {
	const width = 90
	line := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			fmt.Fprintf(b, "  %-5s ", label)
		case line+len(word) > width:
			b.WriteString("\n        ")
			line = 0
		default:
			b.WriteByte(' ')
		}
		b.WriteString(word)
		line += len(word) + 1
	}
	if text != "" {
		b.WriteByte('\n')
	}
}

// oneLine shortens text to fit into a cell of the table. The explanation below the table has all of
// it.
func oneLine(text string) string {
	const most = 90
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

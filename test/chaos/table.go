//go:build linux

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// table is a Markdown table of results, a row for each engine.
func table(results []result, o options, at time.Time) string {
	var b strings.Builder
	b.WriteString("| Engine | Date, commit | Run | Faults | Terms | Entries | Refused (of them to woken leaders) | Unknown (of them committed) | In flight at changes of leader | Without a leader: median, worst | Violations |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %s, %s | %v, %d members | %s | %d | %d | %d (%d) | %d (%d) | %d | %v, %v | %d |\n",
			r.engine, at.UTC().Format(time.DateOnly), cmp.Or(o.commit, "unknown"), r.took.Round(time.Second), o.members,
			faultList(r.faults), r.terms, r.Entries, r.Refusals, r.woken, r.Unknowns, r.Landed, r.inFlight,
			median(r.vacancies).Round(time.Millisecond), worst(r.vacancies).Round(time.Millisecond), r.Violations())
	}
	return b.String()
}

// faultList counts faults by kind.
func faultList(faults map[kind]int) string {
	total := 0
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(faults)) {
		total += faults[k]
		parts = append(parts, fmt.Sprintf("%s %d", k, faults[k]))
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(parts, ", "))
}

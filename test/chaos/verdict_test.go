//go:build linux

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/arena"
)

// ms is a moment of the histories here, in nanoseconds. Their wall clock is ahead
// by ahead.
func ms(n int64) int64 { return n * int64(time.Millisecond) }

const ahead = int64(time.Hour)

func changed(seq int64, term uint64, member string, at int64) change {
	return change{seq, term, member, (ms(at) + ahead) / int64(time.Microsecond)}
}

func appended(seq int64, term uint64, member string, token string) arena.Entry {
	return arena.Entry{Seq: seq, Term: term, Process: arena.Process{Member: member, Number: 1}, Token: token}
}

func said(at int64, w arena.What, member string, term uint64, token string) arena.Line {
	return arena.Line{At: ms(at), What: w, Member: member, Number: 1, Term: term, Token: token}
}

// good is a history in which a leads, is frozen at 200, overtaken by b at 2500,
// and woken at 3000.
func good() history {
	acknowledged := said(120, arena.Committed, "a", 1, "a/1")
	acknowledged.Seq = 3
	return history{
		changes: []change{changed(1, 0, "", 10), changed(2, 1, "a", 100), changed(4, 2, "b", 2500)},
		History: arena.History{
			Ledger: []arena.Entry{appended(3, 1, "a", "a/1"), appended(5, 2, "b", "b/1"), appended(6, 2, "b", "b/2")},
			Members: []arena.Line{
				said(101, arena.Entered, "a", 1, ""),
				said(110, arena.Began, "a", 1, "a/1"), acknowledged,
				said(150, arena.Began, "a", 1, "a/2"), said(3010, arena.Refused, "a", 1, "a/2"),
				{At: ms(3001), What: arena.Stalled, Member: "a", Number: 1, For: ms(2800)},
				said(3020, arena.Exited, "a", 1, ""),
				said(2501, arena.Entered, "b", 2, ""),
				said(2510, arena.Began, "b", 2, "b/1"), said(2520, arena.Unknown, "b", 2, "b/1"),
				said(2530, arena.Began, "b", 2, "b/2"),
				said(2540, arena.Began, "b", 2, "b/3"), said(2550, arena.Unknown, "b", 2, "b/3"),
				said(2560, arena.Began, "b", 2, "b/4"), said(2570, arena.Failed, "b", 2, "b/4"),
			},
			Stage: []arena.Line{
				{What: clocks, Wall: ahead},
				{At: ms(200), What: struck, Fault: string(sigstop), Member: "a"},
				{At: ms(200), What: arena.Frozen, Member: "a", Number: 1},
				{At: ms(3000), What: arena.Thawed, Member: "a", Number: 1},
				{At: ms(3000), What: healed, Fault: string(sigstop), Member: "a"},
				{At: ms(3100), What: struck, Fault: string(sigkill), Member: "b"},
				{At: ms(3110), What: arena.Killed, Member: "b", Number: 1},
				{At: ms(3200), What: went},
			},
		},
	}
}

func TestVerdictCounts(t *testing.T) {
	v := judge(good())
	require.Zero(t, v.Violations(), "%+v", v.Promises)
	require.Equal(t, map[kind]int{sigstop: 1, sigkill: 1}, v.faults)
	require.Equal(t, 2, v.terms)
	require.Equal(t, 3, v.Entries)
	require.Equal(t, 1, v.Refusals)
	require.Equal(t, 1, v.woken)
	require.Equal(t, 2, v.Unknowns)
	require.Equal(t, 1, v.Landed)
	require.Equal(t, 1, v.Orphans, "b was killed before it could tell of b/2")
	require.Equal(t, 1, v.Failures)
	require.Equal(t, 1, v.inFlight, "a/2 was under way when b became leader")
	require.Equal(t, 1, v.Overlaps, "a was frozen")
	require.Equal(t, []time.Duration{2301 * time.Millisecond}, v.vacancies, "from the freeze")
}

func TestVerdictLeavesOutagesOut(t *testing.T) {
	h := good()
	h.Stage = append(h.Stage,
		arena.Line{At: ms(1000), What: struck, Fault: string(crash)}, arena.Line{At: ms(2000), What: healed, Fault: string(crash)})
	v := judge(h)
	require.Empty(t, v.vacancies)
	require.Equal(t, []time.Duration{501 * time.Millisecond}, v.recoveries, "from the end of the outage")
}

// lead adds a reign in term 3, from at on, in which nothing is written.
func lead(h *history, member string, at int64) {
	h.changes = append(h.changes, changed(7, 3, member, at))
	h.Members = append(h.Members, said(at, arena.Entered, member, 3, ""), said(at+10, arena.Exited, member, 3, ""))
}

// The arena's own tests break the promises that hold in every arena, each by itself.
func TestVerdictFindsWhatIsBroken(t *testing.T) {
	for name, test := range map[string]struct {
		promise string
		spoil   func(h *history)
	}{
		"an entry after the next leader's first": {inItsReign, func(h *history) {
			h.Ledger = append(h.Ledger, appended(7, 1, "a", "a/2"))
		}},
		"an entry after the acquisition, before any of the new leader": {inItsReign, func(h *history) {
			h.Ledger = append(h.Ledger[:1], appended(5, 1, "a", "a/2"))
		}},
		"an entry after the resignation": {inItsReign, func(h *history) {
			h.changes = append(h.changes, changed(7, 2, "", 2600))
			h.Ledger = append(h.Ledger, appended(8, 2, "b", "b/3"))
		}},
		"an entry of another term of the leader": {inItsReign, func(h *history) {
			h.changes = append(h.changes, changed(7, 3, "b", 2600))
			h.Ledger = append(h.Ledger, appended(8, 2, "b", "b/3"))
		}},
		"an entry without a leader":  {inItsReign, func(h *history) { h.Ledger[0].Seq = 0 }},
		"no change was written down": {inItsReign, func(h *history) { h.changes = nil }},
		"a term that does not grow":  {acquired, func(h *history) { h.changes = append(h.changes, changed(7, 2, "a", 2600)) }},
		"a callback in another's term": {acquired, func(h *history) {
			lead(h, "a", 3200)
			h.changes[3].member = "b"
		}},
		"a callback in nobody's term": {acquired, func(h *history) {
			lead(h, "a", 3200)
			h.changes = h.changes[:3]
		}},
		"two callbacks in one term": {arena.TermsGrow, func(h *history) { h.Members = append(h.Members, said(2600, arena.Entered, "b", 2, "")) }},
		"callbacks out of order":    {arena.TermsGrow, func(h *history) { h.Members = append(h.Members, said(90, arena.Entered, "b", 2, "")) }},
		"two processes that write in one term": {arena.LedByTerm, func(h *history) {
			e := appended(7, 2, "b", "b/9")
			e.Number = 2
			h.Ledger = append(h.Ledger, e)
		}},
		"a callback that ran on, without having been stopped": {arena.NoOverlap, func(h *history) {
			h.Stage = append(h.Stage[:1], h.Stage[5:]...)
			h.Members = append(h.Members[:5], h.Members[6:]...)
		}},
		"a woken callback that runs on": {arena.NoOverlap, func(h *history) { h.Members[6].At = ms(3600) }},
		"a freeze after the overlap had begun": {arena.NoOverlap, func(h *history) {
			h.Stage[2].At = ms(2600)
			h.Members[5] = said(3001, arena.Troubled, "a", 1, "")
		}},
		"an acknowledged entry that is gone": {arena.Remembered, func(h *history) { h.Ledger = h.Ledger[1:] }},
		"an attempt that never returned":     {arena.Remembered, func(h *history) { h.Stage[6].Member = "c" }},
		"an election that stood still":       {wentOn, func(h *history) { h.Stage[7].What = stuck }},
		"a process that ended by itself":     {obeyed, func(h *history) { h.Stage[7].What = deserted }},
		"nobody led for too long":            {ledAgain, func(h *history) { lead(h, "a", 15000) }},
	} {
		t.Run(name, func(t *testing.T) {
			h := good()
			test.spoil(&h)
			require.NotEmpty(t, judge(h).Against(test.promise))
		})
	}
}

// On SQLite a process that is stopped within a write stops the election.
func TestVerdictAllowsForStops(t *testing.T) {
	h := good()
	lead(&h, "a", 15000)
	require.Equal(t, 1, judge(h).Violations())
	h.Stage = append(h.Stage,
		arena.Line{At: ms(4000), What: arena.Frozen, Member: "a", Number: 1}, arena.Line{At: ms(8000), What: arena.Thawed, Member: "a", Number: 1})
	require.Zero(t, judge(h).Violations())
}

func TestVerdictNeedsClocksThatCanBeCompared(t *testing.T) {
	h := good()
	h.Stage = append(h.Stage, arena.Line{At: ms(4000), What: clocks, Wall: ahead + ms(4100)})
	require.Equal(t, 1, judge(h).Violations())
	h.Stage = h.Stage[1 : len(h.Stage)-1]
	require.Equal(t, 1, judge(h).Violations())
}

func TestTable(t *testing.T) {
	v := judge(good())
	text := table([]result{{engine: "mysql", took: 65 * time.Second, verdict: v}}, options{members: 3, commit: "abc"},
		time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	require.Contains(t, text, "\n| mysql | 2026-01-02, abc | 1m5s, 3 members | 2: SIGKILL 1, SIGSTOP 1 | 2 | 3 | 1 (1) | 2 (1) | 1 | 2.301s, 2.301s | 0 |\n")
}

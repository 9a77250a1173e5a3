//go:build linux

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ms is a moment of the histories here, in nanoseconds. Their wall clock is ahead
// by ahead.
func ms(n int64) int64 { return n * int64(time.Millisecond) }

const ahead = int64(time.Hour)

func change(seq int64, term uint64, member string, at int64) entry {
	return entry{Seq: seq, Change: true, Term: term, Member: member, At: (ms(at) + ahead) / int64(time.Microsecond)}
}

func appended(seq int64, term uint64, member string, token string) entry {
	return entry{Seq: seq, Term: term, Member: member, Life: 1, Token: token}
}

func said(at int64, w what, member string, term uint64, token string) line {
	return line{At: ms(at), What: w, Member: member, Life: 1, Term: term, Token: token}
}

// good is a history in which a leads, is stopped at 200, overtaken by b at 2500,
// and woken at 3000.
func good() history {
	return history{
		ledger: []entry{
			change(1, 0, "", 10), change(2, 1, "a", 100), appended(3, 1, "a", "a/1"),
			change(4, 2, "b", 2500), appended(5, 2, "b", "b/1"), appended(6, 2, "b", "b/2"),
		},
		members: []line{
			said(101, entered, "a", 1, ""),
			said(110, began, "a", 1, "a/1"), said(120, committed, "a", 1, "a/1"),
			said(150, began, "a", 1, "a/2"), said(3010, refused, "a", 1, "a/2"),
			{At: ms(3001), What: stalled, Member: "a", Life: 1, For: ms(2800)},
			said(3020, exited, "a", 1, ""),
			said(2501, entered, "b", 2, ""),
			said(2510, began, "b", 2, "b/1"), said(2520, unknown, "b", 2, "b/1"),
			said(2530, began, "b", 2, "b/2"),
			said(2540, began, "b", 2, "b/3"), said(2550, unknown, "b", 2, "b/3"),
			said(2560, began, "b", 2, "b/4"), said(2570, failed, "b", 2, "b/4"),
		},
		stage: []line{
			{What: clocks, Wall: ahead},
			{At: ms(200), What: struck, Fault: sigstop, Member: "a"},
			{At: ms(200), What: stopped, Member: "a", Life: 1},
			{At: ms(3000), What: continued, Member: "a", Life: 1},
			{At: ms(3000), What: healed, Fault: sigstop, Member: "a"},
			{At: ms(3100), What: struck, Fault: sigkill, Member: "b"},
			{At: ms(3110), What: killed, Member: "b", Life: 1},
			{At: ms(3200), What: went},
		},
	}
}

func TestVerdictCounts(t *testing.T) {
	v := judge(good())
	require.Zero(t, v.violations(), "%+v", v.promises)
	require.Equal(t, map[kind]int{sigstop: 1, sigkill: 1}, v.faults)
	require.Equal(t, 2, v.terms)
	require.Equal(t, 3, v.entries)
	require.Equal(t, 1, v.refusals)
	require.Equal(t, 1, v.woken)
	require.Equal(t, 2, v.unknowns)
	require.Equal(t, 1, v.landed)
	require.Equal(t, 1, v.orphans, "b was killed before it could tell of b/2")
	require.Equal(t, 1, v.failures)
	require.Equal(t, 1, v.inFlight, "a/2 was under way when b became leader")
	require.Equal(t, 1, v.overlaps, "a was stopped")
	require.Equal(t, []time.Duration{2301 * time.Millisecond}, v.vacancies, "from the stop")
}

func TestVerdictLeavesOutagesOut(t *testing.T) {
	h := good()
	h.stage = append(h.stage,
		line{At: ms(1000), What: struck, Fault: crash}, line{At: ms(2000), What: healed, Fault: crash})
	v := judge(h)
	require.Empty(t, v.vacancies)
	require.Equal(t, []time.Duration{501 * time.Millisecond}, v.recoveries, "from the end of the outage")
}

func TestVerdictFindsWhatIsBroken(t *testing.T) {
	const (
		outside = iota
		terms
		overlapping
		memory
		progress
		ends
		vacancy
	)
	for name, test := range map[string]struct {
		promise int
		spoil   func(h *history)
	}{
		"an entry after the next leader's first": {outside, func(h *history) {
			h.ledger = append(h.ledger, appended(7, 1, "a", "a/2"))
		}},
		"an entry after the acquisition, before any of the new leader": {outside, func(h *history) {
			h.ledger = append(h.ledger[:4], appended(5, 1, "a", "a/2"))
		}},
		"an entry after the resignation": {outside, func(h *history) {
			h.ledger = append(h.ledger, change(7, 2, "", 2600), appended(8, 2, "b", "b/3"))
		}},
		"an entry of another term of the leader": {outside, func(h *history) {
			h.ledger = append(h.ledger, change(7, 3, "b", 2600), appended(8, 2, "b", "b/3"))
		}},
		"an entry without a leader": {outside, func(h *history) { h.ledger = append([]entry{appended(0, 1, "a", "a/0")}, h.ledger...) }},
		"a term that does not grow": {terms, func(h *history) { h.ledger = append(h.ledger, change(7, 2, "a", 2600)) }},
		"two callbacks in one term": {terms, func(h *history) { h.members = append(h.members, said(2600, entered, "b", 2, "")) }},
		"a callback in another's term": {terms, func(h *history) {
			h.ledger = append(h.ledger, change(7, 3, "a", 2600))
			h.members = append(h.members, said(3200, entered, "b", 3, ""))
		}},
		"callbacks out of order": {terms, func(h *history) {
			h.members = append(h.members, said(90, entered, "b", 2, ""))
		}},
		"two processes that write in one term": {terms, func(h *history) {
			e := appended(7, 2, "b", "b/9")
			e.Life = 2
			h.ledger = append(h.ledger, e)
		}},
		"a callback that ran on, without having been stopped": {overlapping, func(h *history) {
			h.stage = append(h.stage[:1], h.stage[5:]...)
			h.members = append(h.members[:5], h.members[6:]...)
		}},
		"a woken callback that runs on": {overlapping, func(h *history) { h.members[6].At = ms(3600) }},
		"a stop after the overlap had begun": {overlapping, func(h *history) {
			h.stage[2].At = ms(2600)
			h.members[5] = said(3001, troubled, "a", 1, "")
		}},
		"an acknowledged entry that is gone": {memory, func(h *history) { h.ledger = append(h.ledger[:2], h.ledger[3:]...) }},
		"a refused entry that is there":      {memory, func(h *history) { h.ledger[2].Token = "a/2" }},
		"a failed entry that is there":       {memory, func(h *history) { h.ledger[4].Token = "b/4" }},
		"an entry that is there twice":       {memory, func(h *history) { h.ledger[5].Token = "b/1" }},
		"an entry that nobody wrote":         {memory, func(h *history) { h.ledger[5].Token = "b/9" }},
		"an entry of another term":           {memory, func(h *history) { h.ledger[5].Term = 3 }},
		"an attempt that never returned":     {memory, func(h *history) { h.stage[6].Member = "c" }},
		"an election that stood still":       {progress, func(h *history) { h.stage[7].What = stuck }},
		"a process that ended by itself":     {ends, func(h *history) { h.stage[7].What = deserted }},
		"nobody led for too long": {vacancy, func(h *history) {
			h.members = append(h.members, said(15000, entered, "a", 3, ""))
			h.ledger = append(h.ledger, change(7, 3, "a", 15000))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := good()
			test.spoil(&h)
			require.NotEmpty(t, judge(h).promises[test.promise].broken)
		})
	}
}

// On SQLite a process that is stopped within a write stops the election.
func TestVerdictAllowsForStops(t *testing.T) {
	h := good()
	h.members = append(h.members, said(15000, entered, "a", 3, ""))
	h.ledger = append(h.ledger, change(7, 3, "a", 15000))
	require.Equal(t, 1, judge(h).violations())
	h.stage = append(h.stage,
		line{At: ms(4000), What: stopped, Member: "a", Life: 1}, line{At: ms(8000), What: continued, Member: "a", Life: 1})
	require.Zero(t, judge(h).violations())
}

func TestVerdictNeedsClocksThatCanBeCompared(t *testing.T) {
	h := good()
	h.stage = append(h.stage, line{At: ms(4000), What: clocks, Wall: ahead + ms(4100)})
	require.Equal(t, 1, judge(h).violations())
	h.stage = h.stage[1 : len(h.stage)-1]
	require.Equal(t, 1, judge(h).violations())
}

func TestTable(t *testing.T) {
	v := judge(good())
	text := table([]result{{engine: "mysql", took: 65 * time.Second, verdict: v}}, options{members: 3, commit: "abc"},
		time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	require.Contains(t, text, "\n| mysql | 2026-01-02, abc | 1m5s, 3 members | 2: SIGKILL 1, SIGSTOP 1 | 2 | 3 | 1 (1) | 2 (1) | 1 | 2.301s, 2.301s | 0 |\n")
}

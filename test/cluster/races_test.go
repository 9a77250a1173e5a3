package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sqlelect/election"
)

// race is one change of leader against guarded transactions of the old leader on
// another node, of which each makes one entry.
type race struct {
	*world
	number     int64
	from, to   int // nodes: where the old leader works, and where the new one does
	old        reign
	next       string
	lag        string         // a statement that takes long to apply
	took       time.Duration  // by the last change
	terms      []uint64       // acknowledged
	outcomes   map[string]int // of guarded transactions
	mayCommit  map[string]bool
	mustCommit map[string]bool
}

// guardedAtOnce is how many guarded transactions take part in a race.
const guardedAtOnce = 3

// schedule is when what happens.
type schedule struct {
	name string
	of   int // one race in so many
	run  func(r *race)
}

// schedules are tried in this order: the first that is due is taken.
var schedules = []schedule{
	{"a node stalls during the change", 20, (*race).stall},
	{"begun while a node's appliers lag", 19, (*race).beginBehind},
	{"committed while a node's appliers lag", 10, (*race).commitBehind},
	{"begun while the stripes are mended", 7, (*race).mend},
	{"committed right after the change", 2, (*race).commitAfter},
	{"at the same moment", 1, (*race).commitAtOnce},
}

// Of a guarded transaction on one node and a change of leader on another, the one that
// comes second is not committed. The order is read from the nodes' binary logs.
func TestTrap03RacesAcrossNodes(t *testing.T) {
	w := newWorld(t)
	ballast := w.cluster.Schema(t)
	for _, table := range []string{"a", "b"} {
		w.exec(0, "CREATE TABLE "+ballast+"."+table+" (n BIGINT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(100))")
	}
	w.exec(0, "INSERT INTO "+ballast+".b (text) SELECT REPEAT('x', 100) FROM seq_1_to_10000")
	r := &race{
		world: w, lag: "INSERT INTO " + ballast + ".a (text) SELECT text FROM " + ballast + ".b",
		outcomes: map[string]int{}, mayCommit: map[string]bool{}, mustCommit: map[string]bool{},
	}
	counts, slowest := map[string]int{}, time.Duration(0)
	r.old = reign{"member-0", w.mustChange(0, "member-0")}
	r.terms = []uint64{r.old.term}
	for i := range *races {
		r.number = int64(i)
		r.from, r.to = r.nodes()
		r.next = fmt.Sprintf("member-%d", (i+1)%2)
		for _, s := range schedules {
			if i%s.of == s.of-1 {
				counts[s.name]++
				start := time.Now()
				s.run(r)
				slowest = max(slowest, time.Since(start))
				break
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d races %v, the slowest took %v; guarded transactions: %v", *races, counts, slowest.Round(time.Millisecond), r.outcomes)
	for node := range w.cluster.Nodes {
		r.compare(node, w.testify(node))
	}
	assert.Positive(t, r.outcomes["committed"], "no guarded transaction ever won: that is no race")
	assert.Positive(t, r.outcomes["conflict"], "no guarded transaction ever lost: that is no race")
}

// compare holds what was acknowledged against the log of a node.
func (r *race) compare(node int, seen *witness) {
	r.t.Logf("in the log of node %d: %d changes of leader, %d entries, %d outside of their term", node, len(seen.terms), len(seen.entries), len(seen.violations))
	assert.Empty(r.t, seen.violations)
	assert.Equal(r.t, r.terms, seen.terms, "the terms that were acknowledged, and those in the log of node %d", node)
	for entry := range seen.entries {
		assert.True(r.t, r.mayCommit[entry], "entry %s is in the log of node %d, and its transaction was refused", entry, node)
	}
	for entry := range r.mustCommit {
		assert.True(r.t, seen.entries[entry], "entry %s was acknowledged, and is not in the log of node %d", entry, node)
	}
}

func (r *race) nodes() (from, to int) {
	n := len(r.cluster.Nodes)
	from = rand.IntN(n)
	return from, (from + 1 + rand.IntN(n-1)) % n
}

// begin begins guarded transactions of an old leader, and returns when all have made
// their entries, or have ended without. They commit when commit is closed.
func (r *race) begin(old reign, commit <-chan struct{}) (wait func()) {
	var wrote, ended sync.WaitGroup
	wrote.Add(guardedAtOnce)
	results := make([]error, guardedAtOnce)
	for i := range guardedAtOnce {
		ended.Go(func() {
			once := sync.OnceFunc(wrote.Done)
			defer once()
			results[i] = r.guarded(r.t.Context(), r.from, old, r.entry(i), func() { once(); <-commit })
		})
	}
	wrote.Wait()
	return func() {
		ended.Wait()
		for i, err := range results {
			r.note(fmt.Sprint(r.entry(i)), err)
		}
	}
}

func (r *race) entry(i int) int64 { return r.number*guardedAtOnce + int64(i) }

// note counts what a guarded transaction returned.
func (r *race) note(entry string, err error) {
	switch {
	case err == nil:
		r.outcomes["committed"]++
		r.mayCommit[entry], r.mustCommit[entry] = true, true
	case errors.Is(err, election.ErrNotLeader):
		r.outcomes["not leader"]++
	case election.IsRetryable(err):
		r.outcomes["conflict"]++
	case errors.Is(err, election.ErrTxnEnded):
		r.outcomes["conflict that the server hid"]++
	case errors.Is(err, election.ErrOutcomeUnknown):
		r.outcomes["unknown"]++
		r.mayCommit[entry] = true
	default:
		assert.NoError(r.t, err)
	}
}

// take makes the next one the leader, on the other node.
func (r *race) take() {
	start := time.Now()
	term, err := r.change(r.t.Context(), r.to, r.next)
	if assert.NoError(r.t, err) {
		r.old = reign{r.next, term}
		r.took = time.Since(start)
		r.terms = append(r.terms, term)
	}
}

func (r *race) commitAtOnce() {
	commit := make(chan struct{})
	wait := r.begin(r.old, commit)
	var changed sync.WaitGroup
	// Sometimes before its COMMIT, sometimes after, as the last one took.
	until := time.NewTimer(rand.N(r.took + time.Millisecond))
	changed.Go(r.take)
	<-until.C
	close(commit)
	wait()
	changed.Wait()
}

func (r *race) commitAfter() {
	commit := make(chan struct{})
	wait := r.begin(r.old, commit)
	r.take()
	close(commit)
	wait()
}

func (r *race) commitBehind() {
	commit := make(chan struct{})
	wait := r.begin(r.old, commit)
	r.exec(r.to, r.lag)
	r.take()
	close(commit)
	wait()
}

func (r *race) beginBehind() {
	commit := make(chan struct{})
	close(commit)
	was := r.old
	r.exec(r.to, r.lag)
	r.take()
	r.begin(was, commit)()
}

// mend has the stripes missing when both begin: each of them adds some.
func (r *race) mend() {
	r.exec(r.to, "DELETE FROM election WHERE slot BETWEEN 2 AND 17")
	r.entries(r.from) // which has heard of it then
	commit := make(chan struct{})
	close(commit)
	var changed sync.WaitGroup
	was := r.old
	until := time.NewTimer(rand.N(r.took + time.Millisecond))
	changed.Go(func() { <-until.C; r.take() })
	r.begin(was, commit)()
	changed.Wait()
}

// stall lets the node of the old leader apply nothing while the leader changes.
func (r *race) stall() {
	commit := make(chan struct{})
	wait := r.begin(r.old, commit)
	stalled := r.world.stall(r.from)
	r.take()
	close(commit)
	stalled()
	wait()
}

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
)

// load is eight workers that run guarded transactions of whoever leads.
type load struct {
	leads                atomic.Pointer[reign]
	committed, conflicts atomic.Int64
}

// run keeps workers busy on some nodes until ctx ends. Work is how long each guarded
// transaction takes.
func (l *load) run(ctx context.Context, w *world, nodes []int, work time.Duration) (wait func()) {
	const workers = 8
	var running sync.WaitGroup
	for i := range workers {
		running.Go(func() {
			for ctx.Err() == nil {
				err := w.guarded(ctx, nodes[i%len(nodes)], *l.leads.Load(), rand.Int64(), func() {
					busy, cancel := context.WithTimeout(ctx, work)
					defer cancel()
					<-busy.Done()
				})
				switch {
				case err == nil:
					l.committed.Add(1)
				case election.IsRetryable(err):
					l.conflicts.Add(1)
				}
			}
		})
	}
	return running.Wait
}

// Guarded transactions without a pause, wherever, do not keep a change of leader out.
func TestTrap03ChangeIsNotStarvedAcrossNodes(t *testing.T) {
	const changes = 20
	w := newWorld(t)
	for _, where := range [][]int{{0}, {0, 1}, {0, 1, 2}} {
		for _, work := range []time.Duration{0, 20 * time.Millisecond} {
			t.Run(fmt.Sprintf("%dNodes%v", len(where), work), func(t *testing.T) {
				l := new(load)
				l.leads.Store(&reign{"a", w.mustChange(0, "a")})
				ctx, cancel := context.WithCancel(t.Context())
				wait := l.run(ctx, w, where, work)
				defer func() { cancel(); wait() }()
				var took []time.Duration
				start, before := time.Now(), l.committed.Load()
				for i := range changes {
					enough := l.committed.Load() + 8
					eventually(t, 20*time.Second, "guarded transactions of the new leader", func() bool { return l.committed.Load() >= enough })
					next := reign{leader: fmt.Sprint("leader ", i)}
					begun := time.Now()
					bounded, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					term, err := w.change(bounded, 2, next.leader)
					cancel()
					require.NoError(t, err)
					took = append(took, time.Since(begun))
					next.term = term
					l.leads.Store(&next)
				}
				slices.Sort(took)
				t.Logf("%d changes took %v (median), %v (worst); meanwhile %.0f guarded transactions committed per second, %d conflicts", changes,
					took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond),
					float64(l.committed.Load()-before)/time.Since(start).Seconds(), l.conflicts.Load())
				assert.Less(t, took[len(took)-1], 5*time.Second)
			})
		}
	}
}

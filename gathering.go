package election

import (
	"context"
	"sync"
	"time"
)

// A process that takes part in many elections of one table renews them all at the same
// pace. Calls of the storage that may wait a little, and find that others come at the
// same time, are sent together: in one statement.

type patienceKey struct{}

// withPatience says of a storage call that it may wait so long for company.
func withPatience(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patienceKey{}, d)
}

func patienceOf(ctx context.Context) time.Duration {
	d, _ := ctx.Value(patienceKey{}).(time.Duration)
	return d
}

// gathering joins calls of one kind. Safe for concurrent use.
type gathering[Q, A any] struct {
	// all answers the questions, one answer for each, or fails for all of them. If it is
	// nil, each is asked alone.
	all func(ctx context.Context, questions []Q) ([]A, error)

	mu   sync.Mutex
	last time.Time // when somebody with patience last asked
	open *batch[Q, A]
}

// batch is what is asked together.
type batch[Q, A any] struct {
	ctx       context.Context // of the call that began it
	questions []Q
	sent      time.Time // at the latest
	done      chan struct{}
	answers   []A // with err, to be read when done is closed
	err       error
}

// batchSize is limited by how much servers take in one statement.
const batchSize = 100

// ask returns the answer to q, or shared = false if q is to be asked alone: ctx has no
// patience, or nobody else was there lately. When ctx ends first, what was asked may yet
// be done.
func (g *gathering[Q, A]) ask(ctx context.Context, q Q) (answer A, shared bool, err error) {
	b, place := g.join(ctx, q)
	if b == nil {
		return answer, false, nil
	}
	select {
	case <-b.done:
		if b.err == nil {
			answer = b.answers[place]
		}
		return answer, true, b.err
	case <-ctx.Done():
		return answer, true, ctx.Err()
	}
}

func (g *gathering[Q, A]) join(ctx context.Context, q Q) (b *batch[Q, A], place int) {
	patience := patienceOf(ctx)
	deadline, bounded := ctx.Deadline()
	if bounded {
		patience = min(patience, time.Until(deadline)/4)
	}
	if patience <= 0 || g.all == nil {
		return nil, 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	company := now.Sub(g.last) <= patience
	g.last = now
	if g.open == nil {
		if !company {
			return nil, 0
		}
		b := &batch[Q, A]{ctx: ctx, sent: now.Add(patience), done: make(chan struct{})}
		g.open = b
		time.AfterFunc(patience, func() { g.send(b) })
	}
	b = g.open
	if b.sent.Sub(now) > patience {
		return nil, 0
	}
	if of, ok := b.ctx.Deadline(); ok && (!bounded || deadline.After(of)) {
		b.ctx = ctx // it is asked for as long as anyone waits
	}
	b.questions = append(b.questions, q)
	if len(b.questions) == batchSize {
		g.open = nil
		go g.run(b)
	}
	return b, len(b.questions) - 1
}

// send ends b's wait for company, unless it was full before.
func (g *gathering[Q, A]) send(b *batch[Q, A]) {
	g.mu.Lock()
	waits := g.open == b
	if waits {
		g.open = nil
	}
	g.mu.Unlock()
	if waits {
		g.run(b)
	}
}

// run asks all that b holds, for as long as the one who began it would wait, whether or
// not that one still does.
func (g *gathering[Q, A]) run(b *batch[Q, A]) {
	defer close(b.done)
	ctx := context.WithoutCancel(b.ctx)
	if deadline, ok := b.ctx.Deadline(); ok {
		limited, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		ctx = limited
	}
	b.answers, b.err = g.all(ctx, b.questions)
}

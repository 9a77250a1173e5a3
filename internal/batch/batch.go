// Package batch sends calls together that come at about the same time.
//
// A process that takes part in many elections of one table renews them all at the same pace. Each
// renewal is a call of its own. A call may wait a little. If other calls come meanwhile, all of
// them go to the database in one statement.
package batch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// MaxSize bounds how many calls go together, because servers bound a statement's length.
const MaxSize = 100

type waitKey struct{}

// patience is how long calls may wait for other calls, and how long they have waited.
type patience struct {
	may time.Duration
	did atomic.Int64 // nanoseconds
}

// WithWait returns a child of ctx whose calls may wait for other calls for up to d. With a d of 0,
// which is also the default, they do not wait.
func WithWait(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, waitKey{}, &patience{may: d})
}

// Waited is how long the calls under ctx, a child of WithWait's, have waited for other calls until
// now. Under any other ctx it is 0.
func Waited(ctx context.Context) time.Duration { return time.Duration(patienceOf(ctx).did.Load()) }

func patienceOf(ctx context.Context) *patience {
	if p, ok := ctx.Value(waitKey{}).(*patience); ok {
		return p
	}
	return new(patience)
}

// Send answers the questions of several calls, one answer for each in the same order, or
// fails for all of them.
type Send[Q, A any] func(ctx context.Context, questions []Q) ([]A, error)

// Queue joins calls of one kind into batches. A nil Queue joins none. Safe for concurrent
// use.
type Queue[Q, A any] struct {
	send Send[Q, A]

	mu        sync.Mutex
	lastAsked time.Time // when the last call came that may wait
	open      *group[Q, A]
}

// New returns a Queue whose batches are sent by send, each on a goroutine of its own.
func New[Q, A any](send Send[Q, A]) *Queue[Q, A] { return &Queue[Q, A]{send: send} }

// group is one batch.
type group[Q, A any] struct {
	ctx       context.Context // of its call that has most time left
	questions []Q
	sentBy    time.Time
	done      chan struct{}
	sent      time.Time // sent, answers and err are written before done is closed
	answers   []A
	err       error
}

// Do sends q, alone or as part of a batch. If joined is true, q was part of a batch, and answer and
// err are the batch's. If joined is false, nothing was sent: the caller sends q alone. That is so
// if ctx may not wait, or if no other call came lately, within that wait.
//
// Do blocks until the answer is there or ctx ends. When ctx ends it returns ctx.Err(), and the
// batch may still be sent.
func (c *Queue[Q, A]) Do(ctx context.Context, q Q) (answer A, joined bool, err error) {
	asked := time.Now()
	g, place := c.join(ctx, q)
	if g == nil {
		return answer, false, nil
	}
	select {
	case <-g.done:
		patienceOf(ctx).did.Add(int64(g.sent.Sub(asked)))
		if g.err == nil {
			answer = g.answers[place]
		}
		return answer, true, g.err
	case <-ctx.Done():
		return answer, true, ctx.Err()
	}
}

// join puts q into the open group. Without one it opens a group, if another call came lately. It
// returns nil if q is to be sent alone. A call waits for at most a quarter of its time.
func (c *Queue[Q, A]) join(ctx context.Context, q Q) (g *group[Q, A], place int) {
	wait := patienceOf(ctx).may
	deadline, bounded := ctx.Deadline()
	if bounded {
		wait = min(wait, time.Until(deadline)/4)
	}
	if c == nil || wait <= 0 {
		return nil, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	company := now.Sub(c.lastAsked) <= wait
	c.lastAsked = now
	if c.open == nil {
		if !company {
			return nil, 0
		}
		c.open = c.newGroup(ctx, now.Add(wait), wait)
	}
	g = c.open
	if g.sentBy.Sub(now) > wait {
		return nil, 0
	}
	if of, ok := g.ctx.Deadline(); ok && (!bounded || deadline.After(of)) {
		g.ctx = ctx
	}
	g.questions = append(g.questions, q)
	if len(g.questions) == MaxSize {
		c.open = nil
		go c.run(g)
	}
	return g, len(g.questions) - 1
}

func (c *Queue[Q, A]) newGroup(ctx context.Context, sentBy time.Time, wait time.Duration) *group[Q, A] {
	g := &group[Q, A]{ctx: ctx, sentBy: sentBy, done: make(chan struct{})}
	time.AfterFunc(wait, func() { c.close(g) })
	return g
}

// close sends g when its time is over. A group that was full before is sent already.
func (c *Queue[Q, A]) close(g *group[Q, A]) {
	c.mu.Lock()
	isOpen := c.open == g
	if isOpen {
		c.open = nil
	}
	c.mu.Unlock()
	if isOpen {
		c.run(g)
	}
}

// run sends g. Its ctx ends with the longest deadline among g's calls. It does not end when the ctx
// of one call is cancelled, because the other calls still wait for their answers.
func (c *Queue[Q, A]) run(g *group[Q, A]) {
	defer close(g.done)
	g.sent = time.Now()
	ctx := context.WithoutCancel(g.ctx)
	if deadline, ok := g.ctx.Deadline(); ok {
		limited, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		ctx = limited
	}
	g.answers, g.err = c.send(ctx, g.questions)
}

package election

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// maxCalls bounds the storage calls of one elector that are under way at the same
// moment, those included that ignore their ctx and were given up.
const maxCalls = 4

// call is one storage call under way. It runs on a goroutine of its own, so that
// one which never returns cannot hold up the elector.
type call struct {
	started clock.Instant // read before the call was made
	giveUp  time.Duration // when its answer is no longer waited for
	cancel  context.CancelFunc
	done    chan reply    // receives once
	ended   chan struct{} // closed when the call has returned
	base    *Record       // what an Update replaces; nil for a Get
	next    *Record       // what an Update stores; nil for a Get
	move    move
}

type reply struct {
	record *Record
	err    error
}

// caller makes storage calls.
type caller struct {
	storage Storage
	ctx     context.Context // values for the calls; outlives RunElection's ctx
	timeout time.Duration   // for one round of a Get and an Update
	open    []*call         // not known to have ended
}

// busy reports whether too many calls hang to make another.
func (c *caller) busy() bool {
	c.open = slices.DeleteFunc(c.open, (*call).hasEnded)
	return len(c.open) >= maxCalls
}

// close ends all calls and waits for those that honour their ctx.
func (c *caller) close(ck clock.Clock) {
	timer := ck.NewTimer(c.grace())
	defer timer.Stop()
	for _, k := range c.open {
		k.cancel()
	}
	for _, k := range c.open {
		select {
		case <-k.ended:
		case <-timer.C():
			return
		}
	}
}

// get starts a Get.
func (c *caller) get(now clock.Instant) *call {
	k := &call{giveUp: now.Mono + c.timeout}
	c.start(k, now, func(ctx context.Context) (reply reply) {
		reply.record, reply.err = c.storage.Get(ctx)
		switch {
		case reply.err != nil:
		case reply.record == nil:
			reply.err = errors.New("election: storage returned no record and no error")
		case reply.record.Version < 0:
			reply.err = fmt.Errorf("election: storage returned version %d, which must not be negative", reply.record.Version)
		default:
			reply.record.dropUnreadable()
		}
		return reply
	})
	return k
}

// update starts the Update from base to next, within the round of a Get.
func (c *caller) update(now clock.Instant, round *call, base, next *Record, m move) *call {
	k := &call{giveUp: round.giveUp, base: base, next: next, move: m}
	changed := changesLeader(base, next)
	c.start(k, now, func(ctx context.Context) reply {
		return reply{err: c.storage.Update(ctx, next, changed)}
	})
	return k
}

func (c *caller) start(k *call, now clock.Instant, f func(context.Context) reply) {
	ctx, cancel := context.WithTimeout(c.ctx, k.giveUp-now.Mono)
	k.started, k.cancel, k.done, k.ended = now, cancel, make(chan reply, 1), make(chan struct{})
	c.open = append(c.open, k)
	go func() {
		defer close(k.ended)
		defer cancel()
		k.done <- f(ctx)
	}()
}

func (k *call) hasEnded() bool {
	select {
	case <-k.ended:
		return true
	default:
		return false
	}
}

// grace lets a call that honours its ctx answer for itself before it is given up.
func (c *caller) grace() time.Duration { return c.timeout / 8 }

// name is the storage method of k, for errors.
func (k *call) name() string {
	if k.next == nil {
		return "get record"
	}
	return "update record"
}

// explain adds to a storage error what the elector knows of it.
func (k *call) explain(err error, timeout time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: no answer within %v (database out of reach, locked, or its connection pool exhausted): %w",
			k.name(), timeout, err)
	}
	return fmt.Errorf("%s: %w", k.name(), err)
}

package election

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sqlelect/election/internal/batch"
	"github.com/sqlelect/election/internal/clock"
)

// changeRounds is how many rounds a change of leader may take: all that fit between a
// renewal that is due and the end of the trust.
const changeRounds = 3

// maxCalls bounds the storage calls of one elector that are under way at the same
// moment, those included that ignore their ctx and were given up.
const maxCalls = 4

// call is one storage call under way. It runs on a goroutine of its own, so that
// one which never returns cannot hold up the elector.
type call struct {
	started clock.Instant // read before the call was made
	giveUp  time.Duration // when its answer is no longer waited for
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan reply    // receives once
	ended   chan struct{} // closed when the call has returned
	kind    callKind
	base    *Record // the record read in this round; nil for a Get
	write   *write  // what an Update stores
}

// callKind is what a call is for.
type callKind string

const (
	callGet    callKind = "get record"
	callOwn    callKind = "get own entry" // of those kept apart
	callUpdate callKind = "update record"
	callAll    callKind = "get members" // all entries kept apart
	callEvict  callKind = "remove members"
)

// aside reports whether nothing hangs on k: it ends when there is more important work.
func (k *call) aside() bool { return k.kind == callAll || k.kind == callEvict }

type reply struct {
	record  *Record
	members []*Member
	roster  uint64 // of all members
	err     error
}

// caller makes storage calls.
type caller struct {
	storage Storage
	ctx     context.Context  // values for the calls; outlives RunElection's ctx
	timeout time.Duration    // for one round of a Get and an Update, where links are quick
	took    [2]time.Duration // the last two that answered a Get, see roundTime
	open    []*call          // not known to have ended
	// batchWait is for how long the calls of this round may wait to be sent together with others'.
	batchWait time.Duration
}

// slowRound is how many times as long as a Get a round may take: it may have to set up a
// connection anew (TLS and its login are six round trips or seven) before it reads and writes.
const slowRound = 16

// roundTime is how long one round may take. Where the storage answers at once, one that
// does not is given up in time for two more. On a slow link, and before anything was
// answered, that would give up what only needs its time: there a round may take all of
// the time that a renewal has. It is for the link and not for the moment: the quicker one
// of the last two answers tells.
func (c *caller) roundTime() time.Duration {
	most := times(changeRounds, c.timeout)
	took := c.getTime()
	if took == 0 {
		return most
	}
	return min(most, max(c.timeout, times(slowRound, took)))
}

// getTime is how long a Get takes; 0: none was answered.
func (c *caller) getTime() time.Duration { return min(c.took[0], c.took[1]) }

// times is n · d, or a duration that can still be added to a moment where that would overflow.
func times(n, d time.Duration) time.Duration {
	const longest = math.MaxInt64 / 4
	return n * min(d, longest/n)
}

// answered notes that a Get was answered.
func (c *caller) answered(k *call, now time.Duration) {
	took := max(1, now-k.started.Mono-batch.Waited(k.ctx)) // for others, and not for the storage
	c.took[0], c.took[1] = c.took[1], took
	if c.took[0] == 0 {
		c.took[0] = took
	}
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
	k := &call{kind: callGet, giveUp: now.Mono + c.roundTime()}
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

// own starts the reading of what is kept apart under id, within the round of a Get.
func (c *caller) own(now clock.Instant, round *call, base *Record, id string) *call {
	k := &call{kind: callOwn, giveUp: round.giveUp, base: base}
	c.start(k, now, func(ctx context.Context) reply { return c.members(ctx, id) })
	return k
}

// all starts the reading of all that is kept apart.
func (c *caller) all(now clock.Instant) *call {
	k := &call{kind: callAll, giveUp: now.Mono + c.roundTime()}
	c.start(k, now, func(ctx context.Context) reply {
		if rows, ok := rowsOf(c.storage); ok {
			found, err := rows.allMembers(ctx)
			return reply{members: found.members, roster: found.roster, err: err}
		}
		r := c.members(ctx)
		r.roster = rosterOf(r.members)
		return r
	})
	return k
}

func (c *caller) members(ctx context.Context, ids ...string) reply {
	apart, ok := c.storage.(MemberStorage)
	if !ok {
		return reply{err: errors.ErrUnsupported}
	}
	found, err := apart.GetMembers(ctx, ids...)
	kept := Record{Members: found}
	kept.dropUnreadable()
	return reply{members: kept.Members, err: err}
}

// update starts the write w, planned on base, within the round of a Get.
func (c *caller) update(now clock.Instant, round *call, base *Record, w *write) *call {
	k := &call{kind: callUpdate, giveUp: round.giveUp, base: base, write: w}
	changed := w.record != nil && changesLeader(base, w.record)
	if changed { // guarded transactions may be in the way, and whoever gives up loses its place in the queue
		k.giveUp = now.Mono + changeRounds*c.timeout
	}
	c.start(k, now, func(ctx context.Context) reply {
		apart, _ := c.storage.(MemberStorage)
		switch {
		case !w.apart():
			return reply{err: c.storage.Update(ctx, w.record, changed)}
		case w.record == nil:
			return reply{err: apart.UpdateMember(ctx, w.before, w.after)}
		}
		return reply{err: apart.UpdateWithMember(ctx, w.record, changed, w.before, w.after)}
	})
	return k
}

// evict starts the removal of entries kept apart, as far as they are still as
// they were read.
func (c *caller) evict(now clock.Instant, silent []*Member) *call {
	k := &call{kind: callEvict, giveUp: now.Mono + c.roundTime()}
	c.start(k, now, func(ctx context.Context) reply {
		apart, _ := c.storage.(MemberStorage)
		for _, m := range silent {
			if err := apart.UpdateMember(ctx, m, nil); err != nil && !errors.Is(err, ErrRecordConflict) {
				return reply{err: err}
			}
		}
		return reply{}
	})
	return k
}

func (c *caller) start(k *call, now clock.Instant, f func(context.Context) reply) {
	ctx, cancel := context.WithTimeout(batch.WithWait(c.ctx, c.batchWait), k.giveUp-now.Mono)
	k.ctx = ctx
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

// explain adds to a storage error what the elector knows of it.
func (k *call) explain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: no answer within %v (database out of reach, locked, or its connection pool exhausted): %w",
			k.kind, (k.giveUp - k.started.Mono).Round(time.Millisecond), err)
	}
	return fmt.Errorf("%s: %w", k.kind, err)
}

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

// changeRounds is how many rounds fit between a renewal that is due and the end of the trust. A
// change of leader may take as long as all of them.
const changeRounds = 3

// maxCalls bounds the storage calls of one elector that are under way at the same moment. Calls
// that were given up and ignore their ctx count.
const maxCalls = 4

// call is one storage call under way. It runs on a goroutine of its own: a call that never returns
// does not hold up the elector.
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
	callGet        callKind = "get record"
	callOwnRow     callKind = "get own entry" // the own member row
	callUpdate     callKind = "update record"
	callMemberRows callKind = "get members" // all member rows
	callRemoveRows callKind = "remove members"
)

// isOptional reports whether no renewal and no change of leader hangs on k. An optional call is
// given up when the next round is due.
func (k *call) isOptional() bool { return k.kind == callMemberRows || k.kind == callRemoveRows }

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
	took    [2]time.Duration // how long the last two answered Gets took, see roundTime
	open    []*call          // not known to have ended
	// batchWait is how long the calls of this round may wait to be sent together with those of
	// other members of this process.
	batchWait time.Duration
}

// slowRound is how many times as long as a Get a round may take. A round may have to set up a
// connection (six or seven round trips with TLS and the login) before it reads and writes.
const slowRound = 16

// roundTime is how long one round may take.
//
//   - On a quick link it is caller.timeout: a round without an answer is given up in time for two more.
//   - On a slow link it grows with the time of a Get, up to all of the time that a renewal has.
//   - Before the first answer it is all of that time.
//
// The quicker one of the last two Gets tells how slow the link is: one slow answer does not.
func (c *caller) roundTime() time.Duration {
	most := times(changeRounds, c.timeout)
	took := c.getTime()
	if took == 0 {
		return most
	}
	return min(most, max(c.timeout, times(slowRound, took)))
}

// getTime is how long a Get takes, 0 before the first answer.
func (c *caller) getTime() time.Duration { return min(c.took[0], c.took[1]) }

// times is n · d. Where n · d would overflow, it is a duration that can still be added to a moment.
func times(n, d time.Duration) time.Duration {
	const longest = math.MaxInt64 / 4
	return n * min(d, longest/n)
}

// answered notes that a Get was answered.
func (c *caller) answered(k *call, now time.Duration) {
	took := max(1, now-k.started.Mono-batch.Waited(k.ctx)) // less the wait for other members' calls, which is not the storage's
	c.took[0], c.took[1] = c.took[1], took
	if c.took[0] == 0 {
		c.took[0] = took
	}
}

// busy reports whether too many calls are under way to start another one.
func (c *caller) busy() bool {
	c.open = slices.DeleteFunc(c.open, (*call).hasEnded)
	return len(c.open) >= maxCalls
}

// close ends all calls, and waits up to grace for them to return.
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

// getOwnRow starts the reading of the member row of id, within the round of a Get.
func (c *caller) getOwnRow(now clock.Instant, giveUp time.Duration, base *Record, id string) *call {
	k := &call{kind: callOwnRow, giveUp: giveUp, base: base}
	c.start(k, now, func(ctx context.Context) reply { return c.members(ctx, id) })
	return k
}

// getMemberRows starts the reading of all member rows.
func (c *caller) getMemberRows(now clock.Instant) *call {
	k := &call{kind: callMemberRows, giveUp: now.Mono + c.roundTime()}
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
func (c *caller) update(now clock.Instant, giveUp time.Duration, base *Record, w *write) *call {
	k := &call{kind: callUpdate, giveUp: giveUp, base: base, write: w}
	changed := w.record != nil && changesLeader(base, w.record)
	if changed { // guarded transactions may hold it up, and a change that is given up loses its place in their queue
		k.giveUp = now.Mono + changeRounds*c.timeout
	}
	c.start(k, now, func(ctx context.Context) reply {
		apart, _ := c.storage.(MemberStorage)
		switch {
		case !w.writesMemberRow():
			return reply{err: c.storage.Update(ctx, w.record, changed)}
		case w.record == nil:
			return reply{err: apart.UpdateMember(ctx, w.before, w.after)}
		}
		return reply{err: apart.UpdateWithMember(ctx, w.record, changed, w.before, w.after)}
	})
	return k
}

// removeMemberRows starts the removal of expired member rows. A row that has changed since it was
// read stays.
func (c *caller) removeMemberRows(now clock.Instant, silent []*Member) *call {
	k := &call{kind: callRemoveRows, giveUp: now.Mono + c.roundTime()}
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

// grace is how long a call may take to return after its ctx has ended. Then it is given up.
func (c *caller) grace() time.Duration { return c.timeout / 8 }

// explain adds to a storage error which call failed, and on a timeout how long it was waited for.
func (k *call) explain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: no answer within %v (database out of reach, locked, or its connection pool exhausted): %w",
			k.kind, (k.giveUp - k.started.Mono).Round(time.Millisecond), err)
	}
	return fmt.Errorf("%s: %w", k.kind, err)
}

package election

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// startRound looks at the record when that is due.
func (c *campaign) startRound(now clock.Instant) {
	if c.call != nil && c.call.aside() && now.Mono >= c.due() {
		c.call.cancel() // its answer is not waited for
		c.call = nil
	}
	if c.call != nil || now.Mono < c.nextRound {
		return
	}
	if c.caller.busy() {
		c.fail(now, fmt.Errorf("%d storage calls hang and ignore their ctx", maxCalls))
		return
	}
	c.caller.batchWait = 0
	if c.routine {
		c.caller.batchWait = c.cfg.RenewInterval / 20
	}
	if rec := c.known(now); rec != nil {
		c.round = &call{giveUp: now.Mono + c.caller.roundTime()}
		c.decide(rec, now)
		return
	}
	c.call = c.caller.get(now)
	c.round = c.call
}

// due is when the next round begins. A routine one lets what is done aside go on for as long as
// a slow link needs: giving that up may cost the connection, and setting up another one takes
// longer.
func (c *campaign) due() time.Duration {
	if c.call != nil && c.call.aside() && c.routine {
		return max(c.nextRound, c.call.started.Mono+min(2*c.caller.getTime(), c.cfg.RenewInterval))
	}
	return c.nextRound
}

// known is the record as it was last seen, for a release without another read: once,
// and only if that was no longer ago than half a round may last. So it meets nothing
// that a slow round would not.
func (c *campaign) known(now clock.Instant) *Record {
	rec := c.self.base
	if c.release == nil || c.release.tried || c.reign != nil || rec == nil || c.self.needsOwn() || c.oldReads > 0 ||
		!c.self.recorded(rec) || rec.Term != c.release.term || now.Mono > c.seenAt+c.caller.timeout/2 {
		return nil
	}
	c.release.tried = true
	return rec
}

// take handles the reply to the storage call under way.
func (c *campaign) take(r reply, now clock.Instant) {
	k := c.call
	switch {
	case errors.Is(r.err, errors.ErrUnsupported) && k.kind != callGet && (k.write == nil || k.write.apart()):
		// The table has no place for entries: all go into the record.
		if k.write != nil {
			c.self.refused(k.write)
		}
		c.self.cannotKeepApart()
		c.endRound(now.Mono)
	case errors.Is(r.err, ErrRecordConflict) && k.kind == callUpdate:
		// Nothing was stored by this call. Look again soon; the others try too.
		c.self.refused(k.write)
		c.conflicts++
		c.endRound(now.Mono + c.clock.Jitter(min(c.cfg.RenewInterval/4, 2*time.Millisecond<<min(c.conflicts, 10))))
	case r.err != nil:
		c.fail(now, k.explain(r.err))
	case k.kind == callGet:
		c.caller.answered(k, now.Mono)
		c.read(r.record, now)
	case k.kind == callOwn:
		c.readOwn(k.base, r.members, now)
	case k.kind == callUpdate:
		c.acknowledged(k, now)
	case k.kind == callAll:
		c.readMembers(r, now)
	default:
		c.restAside(now)
	}
}

// read takes in the record.
func (c *campaign) read(rec *Record, now clock.Instant) {
	c.self.hear(rec, now.Mono)
	if c.self.isOld(rec) {
		c.doubt(rec, now)
	} else {
		c.oldReads, c.seenAt = 0, c.call.started.Mono
		c.observe(rec, now)
	}
	if c.self.needsOwn() {
		c.call = c.caller.own(c.clock.Read(), c.round, rec, c.cfg.ID)
		return
	}
	c.decide(rec, now)
}

// readOwn takes in what is kept apart under the own ID.
func (c *campaign) readOwn(rec *Record, found []*Member, now clock.Instant) {
	c.self.seeOwn(found, now.Mono)
	if !c.self.isOld(rec) && c.displaced(rec, now) {
		c.endRound(now.Mono)
		return
	}
	c.decide(rec, now)
}

// displaced reports whether this member starts anew, as another process's entry stands
// in the place of its own. With a reign at stake it does not: decide ends that.
func (c *campaign) displaced(rec *Record, now clock.Instant) bool {
	if c.self.provedLoss(rec) {
		c.endHistory(now)
		return true
	}
	copied := c.self.copied(rec, now.Mono)
	if copied {
		c.copied.Store(true) // what was left behind by a reign that both share writes no more
	}
	switch {
	case c.reign != nil:
		return false
	case copied:
		c.copied = new(atomic.Bool)
		c.self.forget(now.Mono)
		c.self.rename(newNonce(c.clock))
		c.report(now, Event{Kind: EventDuplicate})
		return true
	case c.self.replaced(rec, now.Mono):
		c.loseHistory(now)
		return true
	}
	return false
}

// decide starts the write that follows from what was read.
func (c *campaign) decide(rec *Record, now clock.Instant) {
	c.lookedAt = now.Mono
	w := c.self.plan(rec, now, c.want(now))
	switch w.move {
	case moveWait:
		c.lookAround(now)
	case moveLeft:
		c.left = true
		c.settleRelease()
		c.rest(now)
	case moveExhausted:
		c.fail(now, fmt.Errorf("the record's term leaves no room for a higher one: highest seen is %d", c.self.term))
	case moveDuplicate:
		if !c.stopping {
			c.report(now, Event{Kind: EventDuplicate})
		}
		c.rest(now)
		c.left = true // the entry is the other's
		c.stop(now, fmt.Errorf("%w: %q", ErrDuplicateMember, c.cfg.ID), ErrDuplicateMember)
	default:
		c.self.note(&w, rec)
		c.caller.batchWait /= 10 // those that read together are together already
		c.call = c.caller.update(c.clock.Read(), c.round, rec, &w)
	}
}

// doubt handles an answer older than what was seen. Whoever can tries a write on
// it: a lagging replica's is refused, one to a history that went back is not.
// (A write on the newest record seen could find its version in the new history,
// under another record, and undo that.) Where no write can be tried, a whole lease
// without a newer answer decides.
func (c *campaign) doubt(rec *Record, now clock.Instant) {
	if c.oldReads == 0 {
		c.oldSince = now.Mono
	}
	c.oldReads++
	if !c.self.joined && now.Mono >= c.oldSince+c.self.longest {
		c.loseHistory(now)
		c.observe(rec, now)
	}
}

// observe takes in a record that is not old, and steps down if it no longer
// records this member's reign.
func (c *campaign) observe(rec *Record, now clock.Instant) {
	id, term := c.self.leader.id, c.self.leader.term
	if r := c.reign; r != nil && r.cause == nil {
		if cause := c.self.lost(rec, r.term, now.Mono); cause != nil {
			c.loseLease(now, cause)
		}
	}
	if c.self.wentBack(rec, now.Mono) {
		c.loseHistory(now)
	} else {
		c.displaced(rec, now)
	}
	c.self.see(rec, now.Mono)
	c.noteRecord(rec, id, term, now)
}

// acknowledged takes in that k's write was stored.
func (c *campaign) acknowledged(k *call, now clock.Instant) {
	w := k.write
	if c.self.provesLoss(w, k.base) {
		c.endHistory(now)
	}
	if !c.self.joined {
		c.report(now, Event{Kind: EventJoined})
	}
	id, term := c.self.leader.id, c.self.leader.term
	c.self.stored(w, now.Mono)
	if w.record != nil {
		c.seenAt = k.started.Mono
		c.noteRecord(w.record, id, term, now)
	}
	c.conflicts, c.oldReads = 0, 0
	if w.own != nil {
		c.renewAt = k.started.Mono + c.cfg.RenewInterval - c.clock.Jitter(c.cfg.RenewInterval/10)
		if w.move != moveAcquire { // trust counts from the start of a write: one that took long is followed soon
			c.renewAt = max(c.renewAt, now.Mono+c.cfg.RenewInterval/4)
		}
		c.renewedAt = k.started.Time()
	}
	if w.move == moveRelease || w.move == moveLeave {
		c.left = w.move == moveLeave
		if w.record != nil && changesLeader(k.base, w.record) {
			c.report(now, Event{Kind: EventReleased, Term: w.record.Term})
		}
	}
	switch w.move {
	case moveRenew:
		c.extend(k, now)
	case moveAcquire:
		if !c.begin(k, now) || c.renewAt <= now.Mono { // it took so long that its renewal is due
			c.endRound(now.Mono)
			return
		}
	}
	c.lookAround(now)
}

// lookAround ends the round, with a look at all that is kept apart where that is
// called for, or with the removal that the last one had no time for.
func (c *campaign) lookAround(now clock.Instant) {
	c.rest(now)
	if c.nextRound <= now.Mono || !c.self.apart || c.stopping || c.caller.busy() || c.removesLate && c.removeSilent(now) {
		return
	}
	if c.self.wantsRows(now.Mono, c.cfg.RenewInterval) {
		c.caller.batchWait = c.cfg.RenewInterval / 20 // nothing hangs on it
		c.call = c.caller.all(c.clock.Read())
	}
}

// readMembers takes in all that is kept apart. The leader removes what has stood
// still for its lease, after its next renewal where that has waited for the look.
func (c *campaign) readMembers(all reply, now clock.Instant) {
	c.self.seeAllRows(all.members, all.roster, now.Mono)
	if c.removesLate = c.restAside(now); !c.removesLate && !c.caller.busy() {
		c.removeSilent(now)
	}
}

// removeSilent begins to remove what has stood still, if this member leads and there is any: as
// much as a renewal may wait for.
func (c *campaign) removeSilent(now clock.Instant) bool {
	c.removesLate = false
	silent := c.self.silent(now.Mono)
	if len(silent) == 0 || c.reign == nil {
		return false
	}
	some := 32
	if took := c.caller.getTime(); took > 0 {
		some = max(1, min(some, int(c.cfg.RenewInterval/(2*took))))
	}
	c.call = c.caller.evict(c.clock.Read(), silent[:min(len(silent), some)])
	return true
}

// restAside is rest after what was done aside. It reports whether the renewal has waited for
// that (see due) and comes now.
func (c *campaign) restAside(now clock.Instant) (overdue bool) {
	overdue = c.routine && now.Mono >= c.nextRound
	c.rest(now)
	if overdue {
		c.nextRound, c.routine = now.Mono, true
	}
	return overdue
}

// fail ends the round with an error. Whatever was written may or may not be
// stored; the next read tells.
func (c *campaign) fail(now clock.Instant, err error) {
	if k := c.call; k != nil && k.write != nil {
		c.self.unsure(k.write)
	}
	c.lastErr = err
	c.report(now, Event{Kind: EventStorageError, Err: err})
	if k := c.call; k != nil && k.aside() {
		c.call = nil // the round had ended well before it: its pace stands
		return
	}
	c.failures++
	c.endRound(now.Mono + c.backoff(c.cfg.RenewInterval/2))
}

// leaseEndSpread is for how long, for each member, candidates are spread at the end of
// a lease, with fresh jitter each time.
const leaseEndSpread = 20 * time.Microsecond

// rest ends the round until the own entry is due or the leadership may be free.
func (c *campaign) rest(now clock.Instant) {
	c.failures, c.lastErr = 0, nil
	at := c.renewAt
	if at <= now.Mono { // due, but not ours to write at present
		at = now.Mono + c.cfg.RenewInterval
	}
	if !c.stopping && c.reign == nil {
		// The moments at which members first saw the last renewal lie apart as their polls
		// do; this is for when they do not.
		spread := c.clock.Jitter(min(c.cfg.RenewInterval/4, time.Duration(len(c.self.members))*leaseEndSpread))
		for _, free := range []time.Duration{max(c.self.freeAt(), c.heldBack), c.self.ownExpiry()} {
			if free > c.lookedAt { // it may have passed while a write was under way
				at = min(at, max(free+spread, now.Mono))
			}
		}
	}
	if c.release != nil || c.stopping && c.reign == nil && !c.left {
		at = now.Mono + c.backoff(c.cfg.RenewInterval/4)
	}
	c.endRound(at)
	c.routine = at == c.renewAt && c.nextRound == at
}

// lookBy brings the next round forward, for a reason that does not wait for company.
func (c *campaign) lookBy(at time.Duration) {
	c.nextRound, c.routine = min(c.nextRound, at), false
}

func (c *campaign) endRound(next time.Duration) {
	c.call, c.round = nil, nil
	c.nextRound, c.routine = next, false
	if c.lookAgain {
		c.lookAgain, c.nextRound = false, 0
	}
}

// backoff grows with the failures in a row, up to most, and is jittered.
func (c *campaign) backoff(most time.Duration) time.Duration {
	d := min(most, 5*time.Millisecond<<min(c.failures, 16))
	return d/2 + c.clock.Jitter(d/2)
}

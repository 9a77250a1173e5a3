package election

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// startRound begins a round when it is due: it reads the record, unless a round is under way.
func (c *campaign) startRound(now clock.Instant) {
	if c.call != nil && c.call.isOptional() && now.Mono >= c.roundDueAt() {
		c.call.cancel() // its answer is not waited for
		c.call = nil
	}
	if c.call != nil || now.Mono < c.schedule.next {
		return
	}
	if c.caller.busy() {
		c.handleFailure(now, fmt.Errorf("%d storage calls hang and ignore their ctx", maxCalls))
		return
	}
	c.caller.batchWait = 0
	if c.schedule.renewalOnly {
		c.caller.batchWait = c.cfg.RenewInterval / 20
	}
	if rec := c.recordForRelease(now); rec != nil {
		c.roundGiveUp = now.Mono + c.caller.roundTime()
		c.startWrite(rec, now)
		return
	}
	c.call = c.caller.get(now)
	c.roundGiveUp = c.call.giveUp
}

// recordForRelease returns the last record seen, for a first release without another read. It
// returns nil if that record is older than half the time of a round: an older one would be staler
// than what a slow round reads.
func (c *campaign) recordForRelease(now clock.Instant) *Record {
	rec := c.self.newest
	if c.release == nil || c.release.tried || c.reign != nil || rec == nil || c.self.needsOwnRow() || c.answers.old > 0 ||
		!c.self.namesThisProcess(rec) || rec.Term != c.release.term || now.Mono > c.answers.newestAt+c.caller.timeout/2 {
		return nil
	}
	c.release.tried = true
	return rec
}

// handleReply handles the reply to the storage call under way.
func (c *campaign) handleReply(r reply, now clock.Instant) {
	k := c.call
	switch {
	case errors.Is(r.err, errors.ErrUnsupported) && k.kind != callGet && (k.write == nil || k.write.writesMemberRow()):
		// The table has no member rows: all entries go into the record.
		if k.write != nil {
			c.self.handleConflict(k.write)
		}
		c.self.dropMemberRows()
		c.endRound(now.Mono)
	case errors.Is(r.err, ErrRecordConflict) && k.kind == callUpdate:
		// This call stored nothing. The pause is short and random, as the other members try again,
		// too.
		c.self.handleConflict(k.write)
		c.schedule.conflicts++
		c.endRound(now.Mono + c.clock.Jitter(min(c.cfg.RenewInterval/4, 2*time.Millisecond<<min(c.schedule.conflicts, 10))))
	case r.err != nil:
		c.handleFailure(now, k.explain(r.err))
	case k.kind == callGet:
		c.caller.answered(k, now.Mono)
		c.handleRecord(r.record, now)
	case k.kind == callOwnRow:
		c.handleOwnRow(k.base, r.members, now)
	case k.kind == callUpdate:
		c.handleAcknowledged(k, now)
	case k.kind == callMemberRows:
		c.handleMemberRows(r, now)
	case k.kind == callRemoveRows:
		c.scheduleAfterOptional(now)
	}
}

// handleRecord takes in the record that was read. The own member row is read next, if it is not
// known.
func (c *campaign) handleRecord(rec *Record, now clock.Instant) {
	c.self.noteTerms(rec, now.Mono)
	if c.self.isOld(rec) {
		c.handleOldRecord(rec, now)
	} else {
		c.answers.old, c.answers.newestAt = 0, c.call.started.Mono
		c.applyRecord(rec, now)
	}
	if c.self.needsOwnRow() {
		c.call = c.caller.getOwnRow(c.clock.Read(), c.roundGiveUp, rec, c.cfg.ID)
		return
	}
	c.startWrite(rec, now)
}

// handleOwnRow takes in the own member row.
func (c *campaign) handleOwnRow(rec *Record, found []*Member, now clock.Instant) {
	c.self.applyOwnRow(found, now.Mono)
	if !c.self.isOld(rec) && c.startsAnew(rec, now) {
		c.endRound(now.Mono)
		return
	}
	c.startWrite(rec, now)
}

// startsAnew reports whether this member becomes a newcomer: a write has proved that history was
// lost, a copy of this process was found, or another process's entry stands in the place of its
// own. While a callback runs, only lost history makes it a newcomer; startWrite ends the reign for
// the other reasons.
func (c *campaign) startsAnew(rec *Record, now clock.Instant) bool {
	if c.self.provedLoss(rec) {
		c.endHistory(now)
		return true
	}
	copied := c.self.foundCopy(rec, now.Mono)
	if copied {
		c.copyFound.Store(true) // goroutines of a reign that both share cannot commit guarded transactions any more
	}
	switch {
	case c.reign != nil:
		return false
	case copied:
		c.copyFound = new(atomic.Bool)
		c.self.rejoinAsNewcomer(now.Mono)
		c.self.takeNewNonce(newNonce(c.clock))
		c.report(now, Event{Kind: EventDuplicate})
		return true
	case c.self.ownEntryReplaced(rec, now.Mono):
		c.loseHistory(now)
		return true
	}
	return false
}

// startWrite starts the write that follows from what was read.
func (c *campaign) startWrite(rec *Record, now clock.Instant) {
	c.schedule.decidedAt = now.Mono
	w := c.self.plan(rec, now, c.want(now))
	switch w.move {
	case moveWait:
		c.finishRound(now)
	case moveLeft:
		c.shutdown.left = true
		c.endRelease()
		c.endRoundAsDue(now)
	case moveExhausted:
		c.handleFailure(now, fmt.Errorf("the record's term leaves no room for a higher one: highest seen is %d", c.self.highestTerm))
	case moveDuplicate:
		if !c.shutdown.begun {
			c.report(now, Event{Kind: EventDuplicate})
		}
		c.endRoundAsDue(now)
		c.shutdown.left = true // the entry is the other's
		c.stop(now, fmt.Errorf("%w: %q", ErrDuplicateMember, c.cfg.ID), ErrDuplicateMember)
	default:
		c.self.noteProof(&w, rec)
		c.caller.batchWait /= 10 // members that read in one statement write in one, too
		c.call = c.caller.update(c.clock.Read(), c.roundGiveUp, rec, &w)
	}
}

// handleOldRecord handles an answer that is older than what was seen. A lagging replica may have
// answered, or history went back. A write on that record tells: a lagging replica's version is
// refused, the version of a history that went back is not. (A write on the newest record seen would
// not do: the new history may have reached that version with another record, and the write would
// undo it.) A member that has not joined writes nothing yet. It waits for a whole lease without a
// newer answer.
func (c *campaign) handleOldRecord(rec *Record, now clock.Instant) {
	if c.answers.old == 0 {
		c.answers.oldSince = now.Mono
	}
	c.answers.old++
	if !c.self.joined && now.Mono >= c.answers.oldSince+c.self.longestLease {
		c.loseHistory(now)
		c.applyRecord(rec, now)
	}
}

// applyRecord takes in a record that is not old. This member steps down if the record no longer
// names its reign.
func (c *campaign) applyRecord(rec *Record, now clock.Instant) {
	id, term := c.self.leader.id, c.self.leader.term
	if r := c.reign; r != nil && r.cause == nil {
		if cause := c.self.lossCause(rec, r.term, now.Mono); cause != nil {
			c.stepDown(now, cause)
		}
	}
	if c.self.wentBack(rec, now.Mono) {
		c.loseHistory(now)
	} else {
		c.startsAnew(rec, now)
	}
	c.self.applyRecord(rec, now.Mono)
	c.noteRecord(rec, id, term, now)
}

// handleAcknowledged takes in that the storage has stored the write of k.
func (c *campaign) handleAcknowledged(k *call, now clock.Instant) {
	w := k.write
	if c.self.provesLoss(w, k.base) {
		c.endHistory(now)
	}
	if !c.self.joined {
		c.report(now, Event{Kind: EventJoined})
	}
	id, term := c.self.leader.id, c.self.leader.term
	c.self.handleStored(w, now.Mono)
	if w.record != nil {
		c.answers.newestAt = k.started.Mono
		c.noteRecord(w.record, id, term, now)
	}
	c.schedule.conflicts, c.answers.old = 0, 0
	if w.own != nil {
		c.schedule.renewAt = k.started.Mono + c.cfg.RenewInterval - c.clock.Jitter(c.cfg.RenewInterval/10)
		if w.move != moveAcquire { // trust counts from the start of a write: after a long write the next one comes soon
			c.schedule.renewAt = max(c.schedule.renewAt, now.Mono+c.cfg.RenewInterval/4)
		}
		c.renewedAt = k.started.Time()
	}
	if w.move == moveRelease || w.move == moveLeave {
		c.shutdown.left = w.move == moveLeave
		if w.record != nil && changesLeader(k.base, w.record) {
			c.report(now, Event{Kind: EventReleased, Term: w.record.Term})
		}
	}
	switch w.move {
	case moveRenew:
		c.extendTrust(k, now)
	case moveAcquire:
		if !c.begin(k, now) || c.schedule.renewAt <= now.Mono { // the acquisition took so long that its renewal is due
			c.endRound(now.Mono)
			return
		}
	}
	c.finishRound(now)
}

// handleFailure ends the round with an error. What the round wrote may be stored or not; the next
// read tells.
func (c *campaign) handleFailure(now clock.Instant, err error) {
	if k := c.call; k != nil && k.write != nil {
		c.self.forgetOwnRow(k.write)
	}
	c.lastErr = err
	c.report(now, Event{Kind: EventStorageError, Err: err})
	if k := c.call; k != nil && k.isOptional() {
		c.call = nil // the round before it had ended well: the moment of the next one stands
		return
	}
	c.schedule.failures++
	c.endRound(now.Mono + c.backoff(c.cfg.RenewInterval/2))
}

package election

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// campaign is the state of one RunElection. One goroutine owns all of it: it
// waits for the next happening (a reply, a request, the callback's return, a
// timer, the end of ctx), takes it in, and decides what to do next. It never
// blocks on the storage, the callback or a receiver.
type campaign struct {
	*elector
	clock  clock.Clock
	ctx    context.Context // RunElection's; the parent of the callbacks' ctx
	caller caller
	scope  string
	self   participant

	call    *call // under way, or nil
	round   *call // the Get of the round that call belongs to
	reign   *reign
	release *release // after a reign, until the record no longer names it

	nextRound time.Duration // when to look at the record again
	renewAt   time.Duration // when the own entry is due
	heldBack  time.Duration // no campaign before
	failures  int           // storage calls failed in a row
	conflicts int           // writes lost in a row
	brief     int           // reigns in a row that the callback ended early
	lookedAt  time.Duration // when the last write, or none, was decided on
	oldReads  int           // answers in a row older than what was seen
	oldSince  time.Duration // the first of them

	stopping bool
	left     bool          // nothing of this member is left in the record
	leaveBy  time.Duration // when to stop trying to leave
	exit     error         // what RunElection returns

	lastTick  clock.Instant
	renewedAt time.Time
	lastErr   error
	clamped   map[string]bool // members whose claim to too long a lease was reported
}

// release is a leadership to be given back.
type release struct {
	term     uint64
	handover handover
}

func newCampaign(ctx context.Context, e *elector) *campaign {
	ck := clock.From(ctx)
	now := ck.Read()
	c := &campaign{
		elector: e, clock: ck, ctx: ctx,
		caller: caller{
			storage: e.cfg.Storage,
			ctx:     context.WithoutCancel(ctx),
			// Three rounds fit between a renewal that is due and the end of the trust.
			timeout: (e.cfg.RenewDeadline - e.cfg.RenewInterval) / 3,
		},
		self:      newParticipant(e.cfg, cryptorand.Text()),
		nextRound: now.Mono, renewAt: now.Mono, lastTick: now,
		clamped: map[string]bool{},
	}
	if s, ok := e.cfg.Storage.(scoped); ok {
		c.scope = s.scope()
	}
	e.mu.Lock() // a resignation comes before this, or as a request after it
	defer e.mu.Unlock()
	close(e.running)
	if !e.heldBackTo.IsZero() {
		c.heldBack = now.Mono + time.Until(e.heldBackTo)
	}
	return c
}

func (c *campaign) run(ctx context.Context) error {
	defer c.caller.close(c.clock)
	done := ctx.Done()
	for {
		now := c.clock.Read()
		c.tick(now)
		if c.finished(now) {
			c.publish(StateStopped)
			return c.exit
		}
		c.startRound(now)
		c.publish(c.state())
		timer := c.clock.NewTimer(c.wakeAt(now) - now.Mono)
		select {
		case <-timer.C():
		case <-done:
			done = nil
			c.stop(c.clock.Read(), ctx.Err(), context.Cause(ctx))
		case r := <-c.requests:
			c.handle(r, c.clock.Read())
		case r := <-c.replies():
			c.take(r, c.clock.Read())
		case r := <-c.returned():
			c.callbackReturned(r, c.clock.Read())
		}
		timer.Stop()
	}
}

// replies and returned are nil channels, which are never ready, while there is
// nothing to wait for.
func (c *campaign) replies() <-chan reply {
	if c.call == nil {
		return nil
	}
	return c.call.done
}

func (c *campaign) returned() <-chan callbackResult {
	if c.reign == nil {
		return nil
	}
	return c.reign.done
}

// tick does what the passing of time alone demands.
func (c *campaign) tick(now clock.Instant) {
	c.checkSuspend(now)
	if r := c.reign; r != nil {
		if r.cause == nil && r.trust.left(now) <= 0 {
			c.loseLease(now, ErrLeaseExpired)
		}
		if r.cause != nil && !r.overrun && now.Mono >= r.stopBy {
			c.overrun(now)
		}
	}
	if k := c.call; k != nil && now.Mono >= k.giveUp+c.caller.grace() {
		// It ignores its ctx. Whatever it still does, its reply is not believed.
		k.cancel()
		c.fail(now, k.explain(context.DeadlineExceeded, c.caller.timeout))
	}
}

// checkSuspend notices that the machine slept. What must follow for a leader
// follows from its trust; this only reports.
func (c *campaign) checkSuspend(now clock.Instant) {
	const noise = time.Second
	if last := c.lastTick; now.Boot != 0 && last.Boot != 0 {
		if slept := (now.Boot - last.Boot) - (now.Mono - last.Mono); slept > noise {
			c.report(now, Event{Kind: EventSuspended, Duration: slept})
		}
	}
	c.lastTick = now
}

// finished reports whether RunElection may return, and settles what it returns.
func (c *campaign) finished(now clock.Instant) bool {
	if !c.stopping {
		return false
	}
	if c.reign != nil {
		if !c.reign.overrun {
			return false
		}
		c.exit = fmt.Errorf("%w (stopping: %w)", ErrCallbackOverrun, c.exit)
	} else if !c.left && now.Mono < c.leaveBy {
		return false
	}
	if c.release != nil {
		c.release.handover.answer(fmt.Errorf("election: stopped before the release was acknowledged: %w", c.exit))
	}
	return true
}

// stop begins the end of RunElection, which is to return err. A callback that
// runs is ended with cause.
func (c *campaign) stop(now clock.Instant, err, cause error) {
	if c.stopping {
		return
	}
	c.stopping, c.exit = true, err
	c.left = c.left || c.self.renewals == 0 // nothing was ever written
	c.leaveSoon(now)
	if r := c.reign; r != nil && r.cause == nil {
		c.drain(now, cause, handover{})
	}
}

// leaveSoon starts the time in which leaving the record is tried.
func (c *campaign) leaveSoon(now clock.Instant) {
	c.leaveBy = now.Mono + max(c.cfg.RenewInterval, c.caller.timeout)
	c.nextRound = now.Mono
}

// startRound looks at the record when that is due.
func (c *campaign) startRound(now clock.Instant) {
	if c.call != nil || now.Mono < c.nextRound {
		return
	}
	if c.caller.busy() {
		c.fail(now, fmt.Errorf("%d storage calls hang and ignore their ctx", maxCalls))
		return
	}
	c.call = c.caller.get(now)
	c.round = c.call
}

// wakeAt is when tick or startRound next has something to do.
func (c *campaign) wakeAt(now clock.Instant) time.Duration {
	at := c.nextRound
	if c.call != nil {
		at = c.call.giveUp + c.caller.grace()
	}
	if r := c.reign; r != nil {
		switch {
		case r.cause == nil:
			// The timer does not run while the machine sleeps, so a short one is
			// set again and again: after a sleep the trust is checked soon.
			at = min(at, now.Mono+min(r.trust.left(now), c.cfg.RenewInterval/4))
		case !r.overrun:
			at = min(at, r.stopBy)
		}
	}
	if c.stopping && c.reign == nil {
		at = min(at, c.leaveBy)
	}
	if expiry := c.self.takeOverAt(); expiry > now.Mono {
		at = min(at, expiry) // to tell the observers that the leader's lease is over
	}
	return at
}

// take handles the reply to the storage call under way.
func (c *campaign) take(r reply, now clock.Instant) {
	k := c.call
	switch {
	case errors.Is(r.err, errors.ErrUnsupported) && k.kind != callGet:
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
		c.fail(now, k.explain(r.err, c.caller.timeout))
	case k.kind == callGet:
		c.read(r.record, now)
	case k.kind == callOwn:
		c.readOwn(k.base, r.members, now)
	case k.kind == callUpdate:
		c.acknowledged(k, now)
	case k.kind == callAll:
		c.readMembers(r.members, now)
	default:
		c.rest(now)
	}
}

// read takes in the record.
func (c *campaign) read(rec *Record, now clock.Instant) {
	c.self.hear(rec, now.Mono)
	if c.self.isOld(rec) {
		c.doubt(rec, now)
	} else {
		c.oldReads = 0
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
	if c.reign == nil && c.self.replaced(rec, now.Mono) {
		c.loseHistory(now)
		c.endRound(now.Mono)
		return
	}
	c.decide(rec, now)
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
		c.call = c.caller.update(c.clock.Read(), c.round, rec, &w)
	}
}

// lookAround ends the round, with a look at all that is kept apart where that is
// called for.
func (c *campaign) lookAround(now clock.Instant) {
	c.rest(now)
	if c.self.apart && !c.stopping && !c.caller.busy() && c.self.wantsRows(now.Mono, c.cfg.RenewInterval) {
		c.call = c.caller.all(c.clock.Read())
	}
}

// readMembers takes in all that is kept apart. The leader removes what has stood
// still for its lease.
func (c *campaign) readMembers(found []*Member, now clock.Instant) {
	c.self.seeAllRows(found, now.Mono)
	c.rest(now)
	if silent := c.self.silent(now.Mono); len(silent) > 0 && c.reign != nil && !c.caller.busy() {
		const some = 32 // in one go: nothing hangs on it, and the renewal waits
		c.call = c.caller.evict(c.clock.Read(), silent[:min(len(silent), some)])
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
	if c.self.wentBack(rec, now.Mono) || c.reign == nil && c.self.replaced(rec, now.Mono) {
		c.loseHistory(now)
	}
	c.self.see(rec, now.Mono)
	c.noteRecord(rec, id, term, now)
}

// acknowledged takes in that k's write was stored.
func (c *campaign) acknowledged(k *call, now clock.Instant) {
	w := k.write
	if c.self.provesLoss(w, k.base) {
		c.loseHistory(now)
		if r := c.reign; r != nil && r.cause == nil {
			c.loseLease(now, ErrHistoryLost)
		}
	}
	if !c.self.joined {
		c.report(now, Event{Kind: EventJoined})
	}
	id, term := c.self.leader.id, c.self.leader.term
	c.self.stored(w, now.Mono)
	if w.record != nil {
		c.noteRecord(w.record, id, term, now)
	}
	c.conflicts, c.oldReads = 0, 0
	if w.own != nil {
		c.renewAt = k.started.Mono + c.cfg.RenewInterval - c.clock.Jitter(c.cfg.RenewInterval/10)
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
		if !c.begin(k, now) {
			c.endRound(now.Mono)
			return
		}
	}
	c.lookAround(now)
}

// fail ends the round with an error. Whatever was written may or may not be
// stored; the next read tells.
func (c *campaign) fail(now clock.Instant, err error) {
	if k := c.call; k != nil && k.write != nil {
		c.self.unsure(k.write)
	}
	c.failures++
	c.lastErr = err
	c.report(now, Event{Kind: EventStorageError, Err: err})
	c.endRound(now.Mono + c.backoff(c.cfg.RenewInterval/2))
}

// rest ends the round until the own entry is due or the leadership may be free.
func (c *campaign) rest(now clock.Instant) {
	c.failures, c.lastErr = 0, nil
	at := c.renewAt
	if at <= now.Mono { // due, but not ours to write at present
		at = now.Mono + c.cfg.RenewInterval
	}
	if !c.stopping && c.reign == nil {
		for _, free := range []time.Duration{max(c.self.freeAt(), c.heldBack), c.self.ownExpiry()} {
			if free > c.lookedAt { // it may have passed while a write was under way
				at = min(at, max(free, now.Mono))
			}
		}
	}
	if c.release != nil || c.stopping && c.reign == nil && !c.left {
		at = now.Mono + c.backoff(c.cfg.RenewInterval/4)
	}
	c.endRound(at)
}

func (c *campaign) endRound(next time.Duration) {
	c.call, c.round = nil, nil
	c.nextRound = next
}

// backoff grows with the failures in a row, up to most, and is jittered.
func (c *campaign) backoff(most time.Duration) time.Duration {
	d := min(most, 5*time.Millisecond<<min(c.failures, 16))
	return d/2 + c.clock.Jitter(d/2)
}

package election

import (
	"fmt"
	"time"

	"github.com/sqlelect/election/internal/clock"
	"github.com/sqlelect/election/internal/guard"
)

// Leadership begins with an acknowledged acquisition and ends in three steps, on
// every path: the callback's ctx is cancelled, its return is awaited while the
// record goes on naming this member, and only then is the leadership released.

// begin starts the reign that k acquired, and reports whether it did. One that this
// member no longer wants, whose acknowledgement took longer than the trust it
// gives, or that proved a loss of history, is not begun: the next round gives it
// back or acquires anew.
func (c *campaign) begin(k *call, now clock.Instant) bool {
	t := trust{k.started, c.cfg.RenewDeadline}
	if !c.mayCampaign(now) || t.left(now) <= 0 || now.Mono < c.self.barred {
		return false
	}
	term := k.write.record.Term
	l := Leadership{
		Leader: k.write.own.Clone(), Term: term, scope: c.scope, copied: c.copied, guardTook: c.guardTook(term),
		// A callback that waits for its COMMIT shall have returned before another one starts.
		patience: min(guard.DefaultPatience, (c.cfg.LeaseDuration-c.cfg.RenewDeadline)/4),
	}
	c.reign = &reign{term: l.Term, trust: t, started: now, done: make(chan callbackResult, 1)}
	c.believe()
	c.report(now, Event{Kind: EventAcquired, Term: l.Term})
	c.publish(c.state()) // so that the callback finds itself leading, whatever it asks
	c.startCallback(c.ctx, c.reign, l)
	return true
}

// extend lengthens the trust by an acknowledged renewal, counted from its start.
// It revives nothing: a reign that has begun to drain goes on draining, and trust
// that ran out before the acknowledgement stays lost.
func (c *campaign) extend(k *call, now clock.Instant) {
	r := c.reign
	next := k.write.record
	if r == nil || r.cause != nil || next == nil || !c.self.recorded(next) || next.Term != r.term {
		return
	}
	if r.trust.left(now) <= 0 {
		c.loseLease(now, ErrLeaseExpired)
		return
	}
	r.trust.start = k.started
	c.believe()
}

// believe shows the current trust to IsLeader and Term.
func (c *campaign) believe() {
	c.leading.Store(&leading{c.clock, c.reign.term, c.reign.trust})
}

// drain ends the callback's ctx. IsLeader is false from here on.
func (c *campaign) drain(now clock.Instant, cause error, h handover) {
	r := c.reign
	r.cause, r.handover = cause, h
	r.stopBy = now.Mono + min(c.cfg.StopTimeout, forever)
	c.leading.Store(nil)
	r.cancel(cause)
	if now.Mono > c.seenAt+c.caller.timeout/2 && c.failures == 0 {
		c.lookBy(now.Mono) // for the release, while the callback returns
	}
	c.report(now, Event{Kind: EventDraining, Term: r.term, Err: cause})
}

// loseLease ends a reign that this member can no longer be sure of.
func (c *campaign) loseLease(now clock.Instant, cause error) {
	c.drain(now, cause, handover{})
	if c.cfg.ExitOnRenewFail {
		err := fmt.Errorf("member %q in term %d: %w", c.cfg.ID, c.reign.term, cause)
		if c.lastErr != nil {
			err = fmt.Errorf("%w: %w", err, c.lastErr)
		}
		c.stop(now, err, cause)
	}
}

// loseHistory forgets what was seen of a history that is gone.
func (c *campaign) loseHistory(now clock.Instant) {
	c.self.forget(now.Mono)
	c.oldReads = 0
	c.report(now, Event{Kind: EventHistoryLost})
}

// endHistory is loseHistory, where a write has proved it: also a reign ends with it.
func (c *campaign) endHistory(now clock.Instant) {
	c.loseHistory(now)
	if r := c.reign; r != nil && r.cause == nil {
		c.loseLease(now, ErrHistoryLost)
	}
}

// overrun gives up waiting for the callback. The reign stands, so that no other
// callback is started here, but its lease lapses.
func (c *campaign) overrun(now clock.Instant) {
	r := c.reign
	r.overrun = true
	c.report(now, Event{Kind: EventCallbackOverrun, Term: r.term, Duration: c.cfg.StopTimeout})
	r.handover.answer(fmt.Errorf("%w: %v after %w", ErrCallbackOverrun, c.cfg.StopTimeout, r.cause))
}

// callbackReturned ends the reign, and has the leadership released.
func (c *campaign) callbackReturned(result callbackResult, now clock.Instant) {
	r := c.reign
	ran := now.Mono - r.started.Mono
	if r.cause == nil {
		c.leading.Store(nil)
		r.handover.pause = c.pauseAfter(ran)
	}
	r.cancel(nil)
	c.reign = nil
	c.heldBack = max(c.heldBack, now.Mono+r.handover.pause)
	c.settleRelease() // of an earlier reign, whose release was overtaken
	c.release = &release{term: r.term, handover: r.handover}
	c.lookBy(now.Mono)
	err := result.err
	if result.panic != nil {
		err = result.panic
	}
	c.report(now, Event{Kind: EventCallbackReturn, Term: r.term, Duration: ran, Err: err})
	switch {
	case result.panic != nil && c.stopping:
		c.exit = fmt.Errorf("%w: %w", c.exit, result.panic)
		c.leaveSoon(now)
	case result.panic != nil:
		c.stop(now, result.panic, nil)
	case c.stopping:
		c.leaveSoon(now)
	}
}

// pauseAfter is how long a member whose callback gave the leadership up stays out
// of the campaign: two polls, so that every other member has its turn, doubled
// with each short reign in a row.
func (c *campaign) pauseAfter(ran time.Duration) time.Duration {
	if ran >= c.cfg.LeaseDuration {
		c.brief = 0
	}
	c.brief++
	return min(c.cfg.LeaseDuration, c.cfg.RenewInterval<<min(c.brief, 16))
}

// settleRelease ends the release, because it was acknowledged or because the
// record no longer names this member's reign.
func (c *campaign) settleRelease() {
	if c.release != nil {
		c.release.handover.answer(nil)
		c.release = nil
	}
}

// handle takes in a resignation or transfer.
func (c *campaign) handle(q request, now clock.Instant) {
	r := c.reign
	if q.inside != nil && q.inside != r {
		q.answer <- errReignOver
		return
	}
	if q.target == "" {
		c.heldBack = max(c.heldBack, now.Mono+q.pause)
	}
	switch {
	case r != nil && r.overrun:
		q.answer <- fmt.Errorf("%w: it still runs", ErrCallbackOverrun)
	case r != nil:
		if r.cause == nil {
			if q.target != "" && q.target != c.cfg.ID && c.self.apart && !c.self.watches {
				c.asked = append(c.asked, q) // what is known of the target may be from before this reign
				return
			}
			h, err := c.handoverFor(q, now)
			if err != nil || h == nil {
				q.answer <- err
				return
			}
			cause := ErrResigned
			if h.nominee != nil {
				cause = ErrTransferred
			}
			c.drain(now, cause, *h)
		}
		r.handover.join(q)
	case c.release != nil:
		c.release.handover.join(q)
	case q.target != "":
		q.answer <- fmt.Errorf("%w: transfer by %q", ErrNotLeader, c.cfg.ID)
	default:
		q.answer <- nil
	}
}

// errReignOver: ctx descends from that of a callback that has returned.
var errReignOver = fmt.Errorf("%w: the reign that the context carries has ended", ErrNotLeader)

// reconsider handles the transfers that wait for a look at all members, but for those whose callers
// wait no more.
func (c *campaign) reconsider(now clock.Instant) {
	asked := c.asked
	c.asked = nil
	for _, q := range asked {
		if err := q.ctx.Err(); err != nil && c.reign != nil && c.reign.cause == nil {
			q.answer <- err
			continue
		}
		c.handle(q, now)
	}
}

// handoverFor is what shall follow the current reign; nil if nothing shall
// change, an error if the target cannot take over.
func (c *campaign) handoverFor(q request, now clock.Instant) (*handover, error) {
	switch q.target {
	case "":
		return &handover{pause: q.pause}, nil
	case c.cfg.ID:
		return nil, nil
	}
	heir := c.self.entryOf(q.target)
	switch {
	case heir == nil:
		return nil, fmt.Errorf("%w: %q is not a member", ErrUnknownMember, q.target)
	case c.self.expired(q.target, now.Mono) && (c.self.watches || c.self.rows[q.target] == nil):
		return nil, fmt.Errorf("%w: %q has been silent for its whole lease", ErrUnknownMember, q.target)
	case heir.Declines:
		return nil, fmt.Errorf("%w: %q does not campaign at present", ErrUnknownMember, q.target)
	}
	// The heir looks within one RenewInterval and then needs the time of a write.
	return &handover{nominee: &Nominee{heir.ID, heir.Nonce}, pause: 2 * c.cfg.RenewInterval}, nil
}

// mayCampaign reports whether this member may become leader now.
func (c *campaign) mayCampaign(now clock.Instant) bool {
	return !c.stopping && c.reign == nil && now.Mono >= c.heldBack && c.ctx.Err() == nil
}

// want is what the next write shall do.
func (c *campaign) want(now clock.Instant) want {
	w := want{
		leap:     c.clock.Random(),
		campaign: c.mayCampaign(now),
		leave:    c.stopping && c.reign == nil,
		due:      now.Mono >= c.renewAt,
	}
	if r := c.reign; r != nil {
		w.reign, w.overrun = r.term, r.overrun
	}
	if c.release != nil {
		w.release, w.nominee = c.release.term, c.release.handover.nominee
	}
	return w
}

func (c *campaign) state() State {
	switch r := c.reign; {
	case r == nil:
		return StateFollower
	case r.cause == nil:
		return StateLeader
	case !r.overrun:
		return StateDraining
	}
	return StateOverrun
}

// publish shows the state to other goroutines and tells the observers.
func (c *campaign) publish(s State) {
	if c.shown.changes != c.self.changes || c.view.Load() == nil {
		c.shown = c.self.show(c.clock, c.scope)
	}
	v := c.shown
	v.state, v.renewedAt, v.err = s, c.renewedAt, c.lastErr
	c.view.Store(&v)
	c.feed.publish(v.current())
}

// noteRecord acts on, and reports, what a record that was taken in has changed
// against the reign seen before it.
func (c *campaign) noteRecord(rec *Record, id string, term uint64, now clock.Instant) {
	if c.release != nil && !(c.self.recorded(rec) && rec.Term == c.release.term) {
		c.settleRelease()
	}
	if rec.LeaderID != id || rec.Term != term {
		c.report(now, Event{Kind: EventLeaderObserved, Term: rec.Term})
	}
	for _, m := range rec.Members {
		if m.LeaseDuration > MaxLeaseDuration && !c.clamped[m.ID] {
			c.clamped[m.ID] = true
			c.report(now, Event{Kind: EventLeaseClamped, MemberID: m.ID, Duration: m.LeaseDuration})
		}
	}
}

// report emits an event about this member, if not said otherwise.
func (c *campaign) report(now clock.Instant, e Event) {
	e.Time = now.Time()
	if e.MemberID == "" {
		e.MemberID = c.cfg.ID
	}
	e.LeaderID = c.self.leader.id
	c.events.emit(e)
}

// guardTook warns of guarded transactions that hold up an engine with a single
// writer: a renewal cannot be stored while they run.
func (c *campaign) guardTook(term uint64) func(time.Duration) {
	return func(took time.Duration) {
		if took > c.cfg.RenewInterval {
			c.events.emit(Event{Kind: EventGuardSlow, Time: c.clock.Now().Time(),
				MemberID: c.cfg.ID, LeaderID: c.cfg.ID, Term: term, Duration: took})
		}
	}
}

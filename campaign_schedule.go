package election

import (
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// schedule is when a member looks at the record, when it renews, and when it may campaign.
type schedule struct {
	next        time.Duration // when the next round begins
	renewalOnly bool          // the only reason for that round is that the own entry is due
	again       bool          // a round follows this one at once: the record changed meanwhile
	renewAt     time.Duration // when the own entry is due
	heldBack    time.Duration // this member does not campaign before
	decidedAt   time.Duration // when the last round decided what to write
	failures    int           // storage calls that failed in a row
	conflicts   int           // writes in a row that lost against others
}

// by brings the next round forward to at. A round that is brought forward does not wait to be sent
// together with other members' calls.
func (s *schedule) by(at time.Duration) {
	s.next, s.renewalOnly = min(s.next, at), false
}

// setNext sets the moment of the next round.
func (s *schedule) setNext(next time.Duration) {
	s.next, s.renewalOnly = next, false
	if s.again {
		s.again, s.next = false, 0
	}
}

// wakeAt is the moment at which the loop next has something to do if nothing happens before.
func (c *campaign) wakeAt(now clock.Instant) time.Duration {
	at := c.roundDueAt()
	if c.call != nil {
		giveUp := c.call.giveUp + c.caller.grace()
		if !c.call.isOptional() {
			at = giveUp
		}
		at = min(at, giveUp)
	}
	if r := c.reign; r != nil {
		switch {
		case r.cause == nil:
			// The timer does not run while the machine sleeps. A short one is set again and
			// again, so that the trust is checked soon after a sleep.
			at = min(at, now.Mono+min(r.trust.left(now), c.cfg.RenewInterval/4))
		case !r.overrun:
			at = min(at, r.stopBy)
		}
	}
	if c.shutdown.begun && c.reign == nil {
		at = min(at, c.shutdown.leaveBy)
	}
	if expiry := c.self.takeOverAt(); expiry > now.Mono {
		at = min(at, expiry) // to tell the observers that the leader's lease is over
	}
	return at
}

// roundDueAt is the moment at which the next round begins. An optional call under way may delay a
// round that only renews, for as long as a slow link needs: giving the call up may cost the
// connection, and a new connection takes longer than the call.
func (c *campaign) roundDueAt() time.Duration {
	if c.call != nil && c.call.isOptional() && c.schedule.renewalOnly {
		return max(c.schedule.next, c.call.started.Mono+min(2*c.caller.getTime(), c.cfg.RenewInterval))
	}
	return c.schedule.next
}

// leaseEndSpread is the time, for each member, over which the candidates spread at the end of a
// lease. Each member draws its own moment anew each time.
const leaseEndSpread = 20 * time.Microsecond

// endRoundAsDue ends the round. The next round begins when the own entry is due, or when the
// leadership may become free, whichever comes first.
func (c *campaign) endRoundAsDue(now clock.Instant) {
	c.schedule.failures, c.lastErr = 0, nil
	at := c.schedule.renewAt
	if at <= now.Mono { // due, but not this member's to write at present
		at = now.Mono + c.cfg.RenewInterval
	}
	if !c.shutdown.begun && c.reign == nil {
		// Members usually see the last renewal at different moments, as their polls differ. The
		// spread is for the case that they do not.
		spread := c.clock.Jitter(min(c.cfg.RenewInterval/4, time.Duration(len(c.self.members))*leaseEndSpread))
		for _, free := range []time.Duration{max(c.self.mayAcquireAt(), c.schedule.heldBack), c.self.ownExpiry()} {
			if free > c.schedule.decidedAt { // it may have passed while a write was under way
				at = min(at, max(free+spread, now.Mono))
			}
		}
	}
	if c.release != nil || c.shutdown.begun && c.reign == nil && !c.shutdown.left {
		at = now.Mono + c.backoff(c.cfg.RenewInterval/4)
	}
	c.endRound(at)
	c.schedule.renewalOnly = at == c.schedule.renewAt && c.schedule.next == at
}

// endRound ends the round. The next one begins at next.
func (c *campaign) endRound(next time.Duration) {
	c.call = nil
	c.schedule.setNext(next)
}

// backoff is a pause that grows with the failures in a row, up to most, with jitter.
func (c *campaign) backoff(most time.Duration) time.Duration {
	d := min(most, 5*time.Millisecond<<min(c.schedule.failures, 16))
	return d/2 + c.clock.Jitter(d/2)
}

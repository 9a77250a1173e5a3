package election

import (
	"time"

	"github.com/sqlelect/election/internal/clock"
)

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

// publish shows the state to other goroutines, and the leadership to the receivers of Observe.
func (c *campaign) publish(s State) {
	if c.shown.changes != c.self.changes || c.view.Load() == nil {
		c.shown = c.self.show(c.clock, c.scope)
	}
	v := c.shown
	v.state, v.renewedAt, v.err = s, c.renewedAt, c.lastErr
	c.view.Store(&v)
	c.feed.publish(v.current())
}

// report emits an event. It is about this member, unless e.MemberID names another one.
func (c *campaign) report(now clock.Instant, e Event) {
	e.Time = now.Time()
	if e.MemberID == "" {
		e.MemberID = c.cfg.ID
	}
	e.LeaderID = c.self.leader.id
	c.events.emit(e)
}

// noteRecord reports what rec, which was just taken in, has changed. The reign seen before it is
// id's, in term. A release ends when the record no longer names its reign.
func (c *campaign) noteRecord(rec *Record, id string, term uint64, now clock.Instant) {
	if c.release != nil && !(c.self.namesThisProcess(rec) && rec.Term == c.release.term) {
		c.endRelease()
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

// checkSuspend reports that the machine slept. It only reports: a leader's trust counts the time of
// the sleep by itself.
func (c *campaign) checkSuspend(now clock.Instant) {
	const noise = time.Second
	if last := c.lastTick; now.Boot != 0 && last.Boot != 0 {
		if slept := (now.Boot - last.Boot) - (now.Mono - last.Mono); slept > noise {
			c.report(now, Event{Kind: EventSuspended, Duration: slept})
		}
	}
	c.lastTick = now
}

// guardTook returns a function that reports guarded transactions longer than a RenewInterval: on an
// engine with a single writer no renewal can be stored meanwhile.
func (c *campaign) guardTook(term uint64) func(time.Duration) {
	return func(took time.Duration) {
		if took > c.cfg.RenewInterval {
			c.events.emit(Event{Kind: EventGuardSlow, Time: c.clock.Now().Time(),
				MemberID: c.cfg.ID, LeaderID: c.cfg.ID, Term: term, Duration: took})
		}
	}
}

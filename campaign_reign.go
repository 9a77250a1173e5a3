package election

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sqlelect/election/internal/clock"
	"github.com/sqlelect/election/internal/guard"
)

// A reign begins with an acknowledged acquisition. It ends in three steps; a callback that returns
// by itself begins with the second one:
//
//  1. The callback's ctx is cancelled (endReign).
//  2. The callback returns. Until then this member does not release.
//  3. The leadership is released.

// begin starts the reign that k acquired, and reports whether it did. It does not if this member no
// longer wants to lead, if the acknowledgement took longer than the trust it gives, or if the
// acquisition proved a loss of history. The next round then gives the leadership back or acquires
// anew.
func (c *campaign) begin(k *call, now clock.Instant) bool {
	t := trust{k.started, c.cfg.RenewDeadline}
	if !c.mayCampaign(now) || t.left(now) <= 0 || now.Mono < c.self.noAcquireBefore {
		return false
	}
	term := k.write.record.Term
	l := Leadership{
		Leader: k.write.own.Clone(), Term: term, scope: c.scope, copied: c.copyFound, guardTook: c.guardTook(term),
		// A callback that waits for its COMMIT returns before another callback starts.
		patience: min(guard.DefaultPatience, (c.cfg.LeaseDuration-c.cfg.RenewDeadline)/4),
	}
	c.reign = &reign{term: l.Term, trust: t, started: now, done: make(chan callbackResult, 1)}
	c.publishTrust()
	c.report(now, Event{Kind: EventAcquired, Term: l.Term})
	c.publish(c.state()) // so that the callback finds itself leading, whatever it asks
	c.startCallback(c.ctx, c.reign, l)
	return true
}

// extendTrust lengthens the trust by an acknowledged renewal, counted from the start of its call.
// It revives nothing: a draining reign goes on draining, and a trust that ran out before the
// acknowledgement stays lost.
func (c *campaign) extendTrust(k *call, now clock.Instant) {
	r := c.reign
	next := k.write.record
	if r == nil || r.cause != nil || next == nil || !c.self.namesThisProcess(next) || next.Term != r.term {
		return
	}
	if r.trust.left(now) <= 0 {
		c.stepDown(now, ErrLeaseExpired)
		return
	}
	r.trust.start = k.started
	c.publishTrust()
}

// publishTrust shows the current trust to IsLeader and Term.
func (c *campaign) publishTrust() {
	c.leading.Store(&leading{c.clock, c.reign.term, c.reign.trust})
}

// endReign begins the drain: it ends the callback's ctx with cause. IsLeader is false from here on.
func (c *campaign) endReign(now clock.Instant, cause error, h handover) {
	r := c.reign
	r.cause, r.handover = cause, h
	r.stopBy = now.Mono + min(c.cfg.StopTimeout, forever)
	c.leading.Store(nil)
	r.cancel(cause)
	if now.Mono > c.answers.newestAt+c.caller.timeout/2 && c.schedule.failures == 0 {
		c.schedule.by(now.Mono) // for the release, while the callback returns
	}
	c.report(now, Event{Kind: EventDraining, Term: r.term, Err: cause})
}

// stepDown ends a reign in which this member may not believe any more.
func (c *campaign) stepDown(now clock.Instant, cause error) {
	c.endReign(now, cause, handover{})
	if c.cfg.ExitOnRenewFail {
		err := fmt.Errorf("member %q in term %d: %w", c.cfg.ID, c.reign.term, cause)
		if c.lastErr != nil {
			err = fmt.Errorf("%w: %w", err, c.lastErr)
		}
		c.stop(now, err, cause)
	}
}

// loseHistory makes this member a newcomer: what it saw is of a history that is gone.
func (c *campaign) loseHistory(now clock.Instant) {
	c.self.rejoinAsNewcomer(now.Mono)
	c.answers.old = 0
	c.report(now, Event{Kind: EventHistoryLost})
}

// endHistory is loseHistory after a write has proved the loss: a reign ends, too.
func (c *campaign) endHistory(now clock.Instant) {
	c.loseHistory(now)
	if r := c.reign; r != nil && r.cause == nil {
		c.stepDown(now, ErrHistoryLost)
	}
}

// overrun gives up waiting for the callback. The reign stands, so that this process starts no other
// callback, but this member does not renew it any more.
func (c *campaign) overrun(now clock.Instant) {
	r := c.reign
	r.overrun = true
	c.report(now, Event{Kind: EventCallbackOverrun, Term: r.term, Duration: c.cfg.StopTimeout})
	r.handover.answer(fmt.Errorf("%w: %v after %w", ErrCallbackOverrun, c.cfg.StopTimeout, r.cause))
}

// callbackReturned ends the reign. The next round releases the leadership.
func (c *campaign) callbackReturned(result callbackResult, now clock.Instant) {
	r := c.reign
	ran := now.Mono - r.started.Mono
	if r.cause == nil {
		c.leading.Store(nil)
		r.handover.pause = c.pauseAfter(ran)
	}
	r.cancel(nil)
	c.reign = nil
	c.schedule.heldBack = max(c.schedule.heldBack, now.Mono+r.handover.pause)
	c.endRelease() // of an earlier reign: its release was overtaken
	c.release = &release{term: r.term, handover: r.handover}
	c.schedule.by(now.Mono)
	err := result.err
	if result.panic != nil {
		err = result.panic
	}
	c.report(now, Event{Kind: EventCallbackReturn, Term: r.term, Duration: ran, Err: err})
	switch {
	case result.panic != nil && c.shutdown.begun:
		c.shutdown.err = fmt.Errorf("%w: %w", c.shutdown.err, result.panic)
		c.leaveSoon(now)
	case result.panic != nil:
		c.stop(now, result.panic, nil)
	case c.shutdown.begun:
		c.leaveSoon(now)
	}
}

// pauseAfter is how long this member does not campaign after its callback returned by itself: two
// polls, in which every other member looks, doubled with each short reign in a row, up to a lease.
func (c *campaign) pauseAfter(ran time.Duration) time.Duration {
	if ran >= c.cfg.LeaseDuration {
		c.shortReigns = 0
	}
	c.shortReigns++
	return min(c.cfg.LeaseDuration, c.cfg.RenewInterval<<min(c.shortReigns, 16))
}

// mayCampaign reports whether this member may become leader now.
func (c *campaign) mayCampaign(now clock.Instant) bool {
	return !c.shutdown.begun && c.reign == nil && now.Mono >= c.schedule.heldBack && c.ctx.Err() == nil
}

// want is what the next write shall do.
func (c *campaign) want(now clock.Instant) want {
	w := want{
		leap:     c.clock.Random(),
		campaign: c.mayCampaign(now),
		leave:    c.shutdown.begun && c.reign == nil,
		due:      now.Mono >= c.schedule.renewAt,
	}
	if r := c.reign; r != nil {
		w.reign, w.overrun = r.term, r.overrun
	}
	if c.release != nil {
		w.release, w.nominee = c.release.term, c.release.handover.nominee
	}
	return w
}

// reign is one leadership of this process, from the start of its callback to
// the callback's return. While it stands no other callback is started.
type reign struct {
	term    uint64
	trust   trust
	started clock.Instant
	cancel  context.CancelCauseFunc
	over    <-chan struct{}     // closed when the callback's ctx has ended
	done    chan callbackResult // receives once, when the callback has returned

	// The drain, from the end of the callback's ctx on.
	cause    error // nil while leading
	stopBy   time.Duration
	overrun  bool
	handover handover
}

// isOver reports whether the callback's ctx has ended.
func (r *reign) isOver() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

// callbackResult is how a callback ended. runtime.Goexit counts as a return.
type callbackResult struct {
	err   error
	panic *PanicError
}

// insideKey is the key under which a callback's ctx carries its reign.
type insideKey struct{ *elector }

// startCallback runs the LeaderCallback on a goroutine of its own, in the reign r, under a child of
// ctx.
func (e *elector) startCallback(ctx context.Context, r *reign, l Leadership) {
	ctx, r.cancel = context.WithCancelCause(ctx)
	r.over = ctx.Done()
	ctx = context.WithValue(ContextWithLeadership(ctx, l), insideKey{e}, r)
	go func() {
		var result callbackResult
		defer func() {
			if v := recover(); v != nil {
				result = callbackResult{panic: &PanicError{Value: v, Stack: debug.Stack()}}
			}
			r.done <- result
		}()
		result.err = e.cfg.LeaderCallback(ctx)
	}()
}

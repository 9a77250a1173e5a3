package election

import (
	"context"
	"fmt"
	"sync/atomic"
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
	copied *atomic.Bool // a copy of this process was found; shared with its reigns

	call    *call // under way, or nil
	round   *call // the Get of the round that call belongs to
	reign   *reign
	release *release  // after a reign, until the record no longer names it
	asked   []request // transfers that wait for this reign's first look at all members

	nextRound   time.Duration // when to look at the record again
	routine     bool          // and then only because the own entry is due
	lookAgain   bool          // right after this round: it changed meanwhile
	removesLate bool          // what has stood still: there was no time after the last look
	woken       chan struct{} // receives when the storage says that it changed
	renewAt     time.Duration // when the own entry is due
	heldBack    time.Duration // no campaign before
	failures    int           // storage calls failed in a row
	conflicts   int           // writes lost in a row
	brief       int           // reigns in a row that the callback ended early
	lookedAt    time.Duration // when the last write, or none, was decided on
	seenAt      time.Duration // when the call was made that last read the record or wrote it
	oldReads    int           // answers in a row older than what was seen
	oldSince    time.Duration // the first of them

	stopping bool
	left     bool          // nothing of this member is left in the record
	leaveBy  time.Duration // when to stop trying to leave
	exit     error         // what RunElection returns

	shown     view // of what was seen up to its changes
	lastTick  clock.Instant
	renewedAt time.Time
	lastErr   error
	clamped   map[string]bool // members whose claim to too long a lease was reported
}

// release is a leadership to be given back.
type release struct {
	term     uint64
	handover handover
	tried    bool // on the record as it was last seen
}

func newCampaign(ctx context.Context, e *elector) *campaign {
	ck := clock.From(ctx)
	now := ck.Read()
	c := &campaign{
		elector: e, clock: ck, ctx: ctx,
		caller: caller{
			storage: e.cfg.Storage,
			ctx:     context.WithoutCancel(ctx),
			timeout: (e.cfg.RenewDeadline - e.cfg.RenewInterval) / changeRounds,
		},
		self:      newParticipant(e.cfg, newNonce(ck)),
		nextRound: now.Mono, renewAt: now.Mono, lastTick: now,
		copied:  new(atomic.Bool),
		clamped: map[string]bool{},
		woken:   make(chan struct{}, 1),
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

// newNonce tells this process from all others, copies of it included.
func newNonce(ck clock.Clock) string { return fmt.Sprintf("%016x%016x", ck.Random(), ck.Random()) }

func (c *campaign) run(ctx context.Context) error {
	defer c.caller.close(c.clock)
	defer c.watch()()
	done := ctx.Done()
	for {
		now := c.clock.Read()
		c.tick(now)
		c.reconsider(now)
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
		case <-c.woken:
			c.wake(c.clock.Read())
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
		c.fail(now, k.explain(context.DeadlineExceeded))
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
	c.left = c.left || c.self.writes == 0 // nothing was ever written
	c.leaveSoon(now)
	if k := c.call; k != nil && k.write != nil && k.write.move == moveAcquire {
		k.cancel() // it may wait for longer than there is time to leave
	}
	if r := c.reign; r != nil && r.cause == nil {
		c.drain(now, cause, handover{})
	}
}

// leaveSoon starts the time in which leaving the record is tried.
func (c *campaign) leaveSoon(now clock.Instant) {
	c.leaveBy = now.Mono + max(c.cfg.RenewInterval, c.caller.roundTime())
	c.lookBy(now.Mono)
}

// wakeAt is when tick or startRound next has something to do.
func (c *campaign) wakeAt(now clock.Instant) time.Duration {
	at := c.due()
	if c.call != nil {
		giveUp := c.call.giveUp + c.caller.grace()
		if !c.call.aside() {
			at = giveUp
		}
		at = min(at, giveUp)
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

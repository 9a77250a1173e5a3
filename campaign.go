package election

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// campaign is the state of one RunElection. One goroutine owns all of it. In a loop it waits for
// the next happening (a reply of the storage, a request, the callback's return, a timer, the end of
// ctx), takes it in, and decides what to do next. It never blocks on the storage, the callback or a
// receiver.
//
// A round goes down this path:
//
//	startRound          campaign_round.go      the record is read
//	handleReply         campaign_round.go      which of the following takes the reply in
//	handleRecord        campaign_round.go      what it means: observation, participant
//	startWrite          campaign_round.go      what to write: participant.plan
//	handleAcknowledged  campaign_round.go      what an acknowledged write changes
//	begin               campaign_reign.go      an acquisition begins a leadership
//	finishRound         campaign_members.go    then perhaps a look at all members
//	endRoundAsDue       campaign_schedule.go   when to look again
type campaign struct {
	*elector
	clock  clock.Clock
	ctx    context.Context // RunElection's; the parent of the callbacks' ctx
	caller caller
	scope  string
	self   participant

	call    *call    // under way, or nil
	reign   *reign   // nil: no callback runs
	release *release // after a reign, until the record no longer names it

	roundGiveUp      time.Duration // when the round under way is given up
	schedule         schedule
	answers          answers
	shutdown         shutdown
	woken            chan struct{} // receives when the storage says that the record changed
	waitingTransfers []request     // wait for this reign's first look at all members
	removalPending   bool          // expired rows were seen; there was no time to remove them
	shortReigns      int           // reigns in a row that the callback ended early, each but the first within a lease
	copyFound        *atomic.Bool  // a copy of this process was found; shared with its reigns

	shown     view // the last view made of what was seen
	lastTick  clock.Instant
	renewedAt time.Time
	lastErr   error
	clamped   map[string]bool // members whose claim to too long a lease was reported
}

// answers is what a campaign remembers of the storage's answers.
type answers struct {
	newestAt time.Duration // when the call was made that last read the record or wrote it
	old      int           // answers in a row that were older than what was seen
	oldSince time.Duration // the first of them
}

// shutdown is how RunElection comes to its end.
type shutdown struct {
	begun   bool
	left    bool          // nothing of this member is left in the record
	leaveBy time.Duration // when to stop trying to leave
	err     error         // what RunElection returns
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
		self:     newParticipant(e.cfg, newNonce(ck)),
		schedule: schedule{next: now.Mono, renewAt: now.Mono},
		lastTick: now, copyFound: new(atomic.Bool),
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
		c.schedule.heldBack = now.Mono + time.Until(e.heldBackTo)
	}
	return c
}

// newNonce returns a text that tells this process from all others, copies of it included.
func newNonce(ck clock.Clock) string { return fmt.Sprintf("%016x%016x", ck.Random(), ck.Random()) }

func (c *campaign) run(ctx context.Context) error {
	defer c.caller.close(c.clock)
	defer c.watch()()
	done := ctx.Done()
	for {
		now := c.clock.Read()
		c.tick(now)
		c.retryTransfers(now)
		if c.finished(now) {
			c.publish(StateStopped)
			return c.shutdown.err
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
			c.handleRequest(r, c.clock.Read())
		case r := <-c.replies():
			c.handleReply(r, c.clock.Read())
		case r := <-c.returned():
			c.callbackReturned(r, c.clock.Read())
		case <-c.woken:
			c.handleWakeUp(c.clock.Read())
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

// tick does what the passing of time alone demands: it ends a trust that ran out, gives up a
// callback that overruns, and gives up a storage call that ignores its ctx.
func (c *campaign) tick(now clock.Instant) {
	c.checkSuspend(now)
	if r := c.reign; r != nil {
		if r.cause == nil && r.trust.left(now) <= 0 {
			c.stepDown(now, ErrLeaseExpired)
		}
		if r.cause != nil && !r.overrun && now.Mono >= r.stopBy {
			c.overrun(now)
		}
	}
	if k := c.call; k != nil && now.Mono >= k.giveUp+c.caller.grace() {
		// The call ignores its ctx. Whatever it still does, its reply is not believed.
		k.cancel()
		c.handleFailure(now, k.explain(context.DeadlineExceeded))
	}
}

// finished reports whether RunElection may return. If it may, finished completes the error that
// RunElection returns, and answers the callers who wait for the release.
func (c *campaign) finished(now clock.Instant) bool {
	if !c.shutdown.begun {
		return false
	}
	if c.reign != nil {
		if !c.reign.overrun {
			return false
		}
		c.shutdown.err = fmt.Errorf("%w (stopping: %w)", ErrCallbackOverrun, c.shutdown.err)
	} else if !c.shutdown.left && now.Mono < c.shutdown.leaveBy {
		return false
	}
	if c.release != nil {
		c.release.handover.answer(fmt.Errorf("election: stopped before the release was acknowledged: %w", c.shutdown.err))
	}
	return true
}

// stop begins the end of RunElection, which will return err. A running callback's ctx is ended with
// cause.
func (c *campaign) stop(now clock.Instant, err, cause error) {
	if c.shutdown.begun {
		return
	}
	c.shutdown.begun, c.shutdown.err = true, err
	c.shutdown.left = c.shutdown.left || c.self.written.count == 0 // nothing was ever written
	c.leaveSoon(now)
	if k := c.call; k != nil && k.write != nil && k.write.move == moveAcquire {
		k.cancel() // an acquisition may wait for longer than there is time to leave
	}
	if r := c.reign; r != nil && r.cause == nil {
		c.endReign(now, cause, handover{})
	}
}

// leaveSoon starts the time in which leaving the record is tried.
func (c *campaign) leaveSoon(now clock.Instant) {
	c.shutdown.leaveBy = now.Mono + max(c.cfg.RenewInterval, c.caller.roundTime())
	c.schedule.by(now.Mono)
}

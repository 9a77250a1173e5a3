package election

import (
	"context"
	"errors"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// A storage may tell of changes of leader. A member then looks at the record at once, and not only
// at its next poll. Such a wake-up is a hint: it may be false, late or missing. What a member does
// follows from what it reads.

// wakeUps is the state of a storage's wake-ups.
type wakeUps struct {
	watching bool
	since    clock.Instant // while watching
	err      error         // why not
}

const (
	// A watch that has broken begins again after firstWatchAgain. The pause doubles while a watch
	// does not begin, or breaks within watchLasts.
	firstWatchAgain = 20 * time.Millisecond
	watchLasts      = time.Second
)

// watch has the storage wake this member up until stop is called. Stop waits for the storage for
// the time of caller.grace.
func (c *campaign) watch() (stop func()) {
	storage, ok := c.cfg.Storage.(Watcher)
	if !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(c.caller.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.keepWatching(ctx, storage)
	}()
	return func() {
		cancel()
		timer := c.clock.NewTimer(c.caller.grace())
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C():
		}
	}
}

// keepWatching watches until ctx ends, or the storage says that it never can.
func (c *campaign) keepWatching(ctx context.Context, storage Watcher) {
	again, most := firstWatchAgain, min(c.cfg.LeaseDuration, DefaultLeaseDuration)
	for ctx.Err() == nil {
		err := storage.Watch(ctx, c.changed)
		w := c.wakeUps.Swap(&wakeUps{err: err})
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		if w != nil && w.watching && c.clock.Now().Mono-w.since.Mono > watchLasts {
			again = firstWatchAgain
		}
		timer := c.clock.NewTimer(min(again, most) + c.clock.Jitter(firstWatchAgain)) // until then this member polls
		again = min(2*again, most)
		select {
		case <-ctx.Done():
		case <-timer.C():
		}
		timer.Stop()
	}
}

// changed is called by the storage, on a goroutine of its own.
func (c *campaign) changed() {
	if w := c.wakeUps.Load(); w == nil || !w.watching {
		c.wakeUps.Store(&wakeUps{watching: true, since: c.clock.Now()})
	}
	select {
	case c.woken <- struct{}{}:
	default: // it is going to look
	}
}

// staggerStep is about how long a look and an acquisition take.
const staggerStep = 2 * time.Millisecond

// staggerDelay is how long this member waits before it looks, when a wake-up reaches all members at
// once. Members rank themselves in an order that all share (see participant.rank). The first one
// does not wait.
func (c *campaign) staggerDelay() time.Duration {
	before := c.self.rank()
	if before == 0 {
		return 0
	}
	return min(c.cfg.RenewInterval/4, time.Duration(before)*staggerStep+c.clock.Jitter(staggerStep))
}

// handleWakeUp has this member look at the record soon. A leader does not look: it has made the
// change itself, or its next renewal will meet the change.
func (c *campaign) handleWakeUp(now clock.Instant) {
	switch {
	case c.reign != nil && c.reign.cause == nil:
	case c.call != nil && !c.call.isOptional():
		c.schedule.again = true
	default:
		c.schedule.by(now.Mono + c.staggerDelay())
	}
}

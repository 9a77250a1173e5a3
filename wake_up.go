package election

import (
	"context"
	"errors"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// Where the storage can tell of changes of leader, a member looks at the record when
// it does, and not only at its next poll. That is a hint: whatever is told, told late or
// not told, what a member does follows from what it reads.

// wakeUps is what is known of a storage's hints.
type wakeUps struct {
	watching bool
	since    clock.Instant // while watching
	err      error         // why not
}

const (
	// A watch that has broken is taken up again at once, and more rarely while it breaks
	// again within that time, or does not begin.
	firstWatchAgain = 20 * time.Millisecond
	watchLasts      = time.Second
)

// watch has the storage wake this member up, until stop is called. Stop waits for
// the storage for a moment.
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
		timer := c.clock.NewTimer(min(again, most) + c.clock.Jitter(firstWatchAgain)) // until then, polling must do
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

// turnLength is about how long a look and an acquisition take.
const turnLength = 2 * time.Millisecond

// turn is how long this member waits, when all are told of a change at once, for those
// whose turn is before its own. The first one waits for nobody.
func (c *campaign) turn() time.Duration {
	before := c.self.rank()
	if before == 0 {
		return 0
	}
	return min(c.cfg.RenewInterval/4, time.Duration(before)*turnLength+c.clock.Jitter(turnLength))
}

// wake looks at the record soon. A leader does not: what it is told of is its own
// doing, or will end its next renewal.
func (c *campaign) wake(now clock.Instant) {
	switch {
	case c.reign != nil && c.reign.cause == nil:
	case c.call != nil && !c.call.aside():
		c.lookAgain = true
	default:
		c.lookBy(now.Mono + c.turn())
	}
}

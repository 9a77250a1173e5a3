package election

import (
	"fmt"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// release is a leadership to be given back.
type release struct {
	term     uint64
	handover handover
	tried    bool // on the record as it was last seen
}

// handover is what follows a reign, and the callers who wait for the release.
type handover struct {
	nominee *Nominee
	pause   time.Duration // before this member campaigns again
	waiters []chan<- error
}

// answer answers all waiting callers.
func (h *handover) answer(err error) {
	for _, w := range h.waiters {
		w <- err
	}
	h.waiters = nil
}

// join lets the caller of q wait for the handover under way. A transfer joins only a transfer to
// the same heir. A callback that asks cannot wait for its own return: it is answered at once.
func (h *handover) join(q request) {
	switch {
	case q.target != "" && (h.nominee == nil || h.nominee.ID != q.target):
		q.answer <- fmt.Errorf("%w: it is being given up already, and not to %q", ErrNotLeader, q.target)
	case q.inside != nil:
		q.answer <- nil
	default:
		h.waiters = append(h.waiters, q.answer)
	}
}

// handleRequest handles a resignation or a transfer.
func (c *campaign) handleRequest(q request, now clock.Instant) {
	r := c.reign
	if q.inside != nil && q.inside != r {
		q.answer <- errReignOver
		return
	}
	if q.target == "" {
		c.schedule.heldBack = max(c.schedule.heldBack, now.Mono+q.pause)
	}
	switch {
	case r != nil && r.overrun:
		q.answer <- fmt.Errorf("%w: it still runs", ErrCallbackOverrun)
	case r != nil:
		if r.cause == nil {
			if q.target != "" && q.target != c.cfg.ID && c.self.keepsMemberRows && !c.self.rows.tracked {
				c.waitingTransfers = append(c.waitingTransfers, q) // what is known of the target may be older than this reign
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
			c.endReign(now, cause, *h)
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

// errReignOver: the caller's ctx descends from the ctx of a callback that has returned.
var errReignOver = fmt.Errorf("%w: the reign that the context carries has ended", ErrNotLeader)

// retryTransfers handles the transfers that wait for a look at all members. A caller whose ctx has
// ended is answered with ctx's error.
func (c *campaign) retryTransfers(now clock.Instant) {
	asked := c.waitingTransfers
	c.waitingTransfers = nil
	for _, q := range asked {
		if err := q.ctx.Err(); err != nil && c.reign != nil && c.reign.cause == nil {
			q.answer <- err
			continue
		}
		c.handleRequest(q, now)
	}
}

// handoverFor returns what shall follow the current reign: nil if nothing changes, an error if the
// target cannot take over.
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
	case c.self.expired(q.target, now.Mono) && (c.self.rows.tracked || c.self.rows.byID[q.target] == nil):
		return nil, fmt.Errorf("%w: %q has been silent for its whole lease", ErrUnknownMember, q.target)
	case heir.Declines:
		return nil, fmt.Errorf("%w: %q does not campaign at present", ErrUnknownMember, q.target)
	}
	// The heir looks within one RenewInterval, and needs the time of a write after that.
	return &handover{nominee: &Nominee{heir.ID, heir.Nonce}, pause: 2 * c.cfg.RenewInterval}, nil
}

// endRelease ends the release: it was acknowledged, or the record no longer names this member's
// reign.
func (c *campaign) endRelease() {
	if c.release != nil {
		c.release.handover.answer(nil)
		c.release = nil
	}
}

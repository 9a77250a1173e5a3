package election

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

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

// handover is what follows a reign, and who waits for it.
type handover struct {
	nominee *Nominee
	pause   time.Duration // before this member campaigns again
	waiters []chan<- error
}

// answer tells everybody who waits.
func (h *handover) answer(err error) {
	for _, w := range h.waiters {
		w <- err
	}
	h.waiters = nil
}

// join lets q wait for the handover under way. A transfer joins only one to the
// same heir. The callback itself cannot wait for its own return: its answer is that it is to return.
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

// insideKey finds, in a callback's ctx, the reign that started it.
type insideKey struct{ *elector }

// startCallback runs the LeaderCallback of r on a goroutine of its own, under a
// child of ctx.
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

package doctor

import (
	"context"
	"slices"
	"time"

	"github.com/sqlelect/election"
)

// wakeUps measures how long a member waits to be told of a change of leader. A change that no
// member hears of is a warning: members poll.
func (e *examination) wakeUps(ctx context.Context) finding {
	_, a, b := e.site.in("wake-ups")
	if _, err := lead(ctx, a, anna); err != nil {
		return broken("acquire the leadership", err)
	}
	watching, stop := context.WithCancel(ctx)
	rings := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- b.Watch(watching, func() {
			select {
			case rings <- struct{}{}:
			default:
			}
		})
	}()
	defer func() {
		stop()
		<-ended // Watch returns at the latest when ctx ends
	}()
	select {
	case err := <-ended:
		// The receive in the deferred function finds a value also now.
		ended <- nil
		return unheard("%v", err)
	case <-rings: // it has begun to watch
	case <-ctx.Done():
		return unheard("it had not begun when its time was over")
	}
	f := hear(ctx, a, rings)
	select {
	case err := <-ended:
		ended <- nil
		return unheard("%v", err)
	default:
		return f
	}
}

// hear changes the leader a few times, and measures how long each change takes to ring. Each change
// makes the same member the leader in a new term. A change that does not ring in time is only
// counted, because a hint may be lost; the finding tells of all of them.
func hear(ctx context.Context, a *election.SQLStorage, rings <-chan struct{}) finding {
	const changes, bound = 5, time.Second
	var took []time.Duration
	for range changes {
		select { // an earlier ring is not for this change
		case <-rings:
		default:
		}
		start := time.Now()
		if _, err := lead(ctx, a, anna); err != nil {
			return broken("change the leader", err)
		}
		select {
		case <-rings:
			took = append(took, time.Since(start))
		case <-time.After(bound):
		}
	}
	if len(took) < changes {
		return unheard("%d of %d changes were not heard of within %v", changes-len(took), changes, bound)
	}
	slices.Sort(took)
	return ok("heard of %d changes, in %v at most", changes, took[changes-1].Round(time.Microsecond))
}

func unheard(format string, args ...any) finding {
	return warning(format, args...).because(
		"Members are not told of changes, and poll: a graceful hand-over takes up to one RenewInterval instead of milliseconds.",
		"Let the pooler lend by the session or connect to the server itself, allow the pool a few connections, and use a driver that docs/databases.md lists.")
}

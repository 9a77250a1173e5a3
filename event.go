package election

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// EventKind names what happened. The set may grow.
type EventKind string

// The kinds of events that an elector or observer reports, in the rough order of a member's life.
const (
	// EventJoined reports that the first renewal was acknowledged.
	EventJoined EventKind = "joined"
	// EventLeaderObserved reports that the recorded leader or term changed. LeaderID is "" when no
	// member leads.
	EventLeaderObserved EventKind = "leader_observed"
	// EventAcquired reports that this member leads and its callback starts.
	EventAcquired EventKind = "acquired"
	// EventDraining reports that the callback's ctx ended. Err is the cause.
	EventDraining EventKind = "draining"
	// EventCallbackReturn reports that the callback returned. Err is its error, Duration how long
	// it ran.
	EventCallbackReturn EventKind = "callback_return"
	// EventCallbackOverrun reports that the callback did not return within StopTimeout (Duration).
	EventCallbackOverrun EventKind = "callback_overrun"
	// EventReleased reports that the leadership was released.
	EventReleased EventKind = "released"
	// EventStorageError reports that a storage call failed, and not by a conflict. Err is its
	// error.
	EventStorageError EventKind = "storage_error"
	// EventHistoryLost reports that the record vanished or went back, or that another process's
	// entry stands in the place of this follower's. This member does not acquire before the longest
	// lease that it knows has passed.
	EventHistoryLost EventKind = "history_lost"
	// EventLeaseClamped reports that the entry of MemberID claims a lease (Duration) above
	// MaxLeaseDuration.
	EventLeaseClamped EventKind = "lease_clamped"
	// EventSuspended reports that this machine slept for Duration.
	EventSuspended EventKind = "suspended"
	// EventGuardSlow reports that a guarded transaction took longer (Duration) than RenewInterval.
	EventGuardSlow EventKind = "guard_slow"
	// EventDuplicate reports that another process has this ID: one that lives, or a copy of this
	// one.
	EventDuplicate EventKind = "duplicate_member"
	// EventDropped reports that events were lost before the next one. Dropped is their number.
	EventDropped EventKind = "events_dropped"
	// EventStopped reports that RunElection returns. Err is what it returns.
	EventStopped EventKind = "stopped"
)

// Event is something that an elector or observer reports. Fields that its kind does not use are
// zero.
type Event struct {
	Kind     EventKind
	Time     time.Time     // wall clock
	MemberID string        // the member that it is about; "" from an observer
	LeaderID string        // the recorded leader
	Term     uint64        // the term it is about
	Duration time.Duration // see the kind
	Dropped  uint64        // EventDropped only
	Err      error         // see the kind
}

// level is the level at which an event is logged.
func (e Event) level() slog.Level {
	switch e.Kind {
	case EventStorageError, EventGuardSlow, EventLeaseClamped, EventSuspended, EventDropped:
		return slog.LevelWarn
	case EventHistoryLost, EventCallbackOverrun, EventDuplicate:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// attrs returns the member's ID and all other fields that are set, for the log.
func (e Event) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("member", e.MemberID)}
	if e.LeaderID != "" {
		attrs = append(attrs, slog.String("leader", e.LeaderID))
	}
	if e.Term != 0 {
		attrs = append(attrs, slog.Uint64("term", e.Term))
	}
	if e.Duration != 0 {
		attrs = append(attrs, slog.Duration("duration", e.Duration))
	}
	if e.Dropped != 0 {
		attrs = append(attrs, slog.Uint64("dropped", e.Dropped))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	return attrs
}

const eventQueueLength = 256

// eventQueue hands events to a logger and a function, on one goroutine. Its emit never blocks. An
// event that finds the queue full is dropped; the number of dropped events is reported later.
type eventQueue struct {
	queue   chan Event
	dropped atomic.Uint64
	logger  *slog.Logger
	receive func(Event)
	done    chan struct{}
}

// newEventQueue returns nil if there is neither a logger nor a function. A nil queue discards
// events.
func newEventQueue(logger *slog.Logger, receive func(Event)) *eventQueue {
	if logger == nil && receive == nil {
		return nil
	}
	return &eventQueue{
		queue:  make(chan Event, eventQueueLength),
		logger: logger, receive: receive,
		done: make(chan struct{}),
	}
}

// emit enqueues e. Safe for concurrent use and after stop.
func (q *eventQueue) emit(e Event) {
	if q == nil {
		return
	}
	select {
	case q.queue <- e:
	default:
		q.dropped.Add(1)
	}
}

// start begins the delivery, and returns a function that ends it. stop waits until the queued
// events are delivered, but for no longer than patience, because the receiver may block.
func (q *eventQueue) start(patience time.Duration) (stop func()) {
	if q == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go q.run(ctx)
	return func() {
		cancel()
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-q.done:
		case <-timer.C:
		}
	}
}

// run delivers events until ctx ends. Then it delivers the events that are still queued, and
// returns.
func (q *eventQueue) run(ctx context.Context) {
	defer close(q.done)
	for {
		select {
		case e := <-q.queue:
			q.deliver(e)
		case <-ctx.Done():
			for {
				select {
				case e := <-q.queue:
					q.deliver(e)
				default:
					return
				}
			}
		}
	}
}

func (q *eventQueue) deliver(e Event) {
	if n := q.dropped.Swap(0); n > 0 {
		q.deliverOne(Event{Kind: EventDropped, Time: e.Time, MemberID: e.MemberID, Dropped: n})
	}
	q.deliverOne(e)
}

func (q *eventQueue) deliverOne(e Event) {
	if q.logger != nil {
		q.logger.LogAttrs(context.Background(), e.level(), "election: "+string(e.Kind), e.attrs()...)
	}
	if q.receive != nil {
		q.receive(e)
	}
}

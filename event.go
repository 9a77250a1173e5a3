package election

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// EventKind names what happened. The set may grow.
type EventKind string

// What an elector or observer reports, in the rough order of a member's life.
const (
	EventJoined          EventKind = "joined"           // first renewal acknowledged
	EventLeaderObserved  EventKind = "leader_observed"  // the recorded leader or term changed, also to nobody
	EventAcquired        EventKind = "acquired"         // this member leads; its callback starts
	EventDraining        EventKind = "draining"         // the callback's ctx ended; Err is the cause
	EventCallbackReturn  EventKind = "callback_return"  // the callback returned; Err is its error, Duration its run
	EventCallbackOverrun EventKind = "callback_overrun" // the callback did not return within StopTimeout
	EventReleased        EventKind = "released"         // the leadership was given back
	EventStorageError    EventKind = "storage_error"    // a storage call failed with other than a conflict; Err
	EventHistoryLost     EventKind = "history_lost"     // the record vanished or went back; nobody who saw it leads for one lease
	EventLeaseClamped    EventKind = "lease_clamped"    // an entry claims more than MaxLeaseDuration; MemberID
	EventSuspended       EventKind = "suspended"        // this machine slept for Duration
	EventGuardSlow       EventKind = "guard_slow"       // a guarded transaction took longer (Duration) than RenewInterval
	EventDuplicate       EventKind = "duplicate_member" // another process has this ID: one that lives, or a copy of this one
	EventDropped         EventKind = "events_dropped"   // Dropped events were lost before this one
	EventStopped         EventKind = "stopped"          // RunElection returns; Err
)

// Event is one observation of an elector or observer. Fields that a kind does
// not use are zero.
type Event struct {
	Kind     EventKind
	Time     time.Time     // wall clock
	MemberID string        // whom it is about
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

// attrs are the fields of an event that carry something.
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

// eventQueue hands events to a logger and a function, on one goroutine. Its
// emit never blocks: what does not fit is counted and reported later.
type eventQueue struct {
	queue   chan Event
	dropped atomic.Uint64
	logger  *slog.Logger
	receive func(Event)
	done    chan struct{}
}

// newEventQueue returns nil, a queue that discards, when nobody listens.
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

// start begins the delivery. The function it returns ends it and waits for what
// is queued, but for no longer than patience, because the receiver may block.
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

// run delivers until ctx ends, then what is still queued.
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

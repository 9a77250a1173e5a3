package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// ObserverConfig is the configuration of an Observer. Every zero value has a
// default.
type ObserverConfig struct {
	// PollInterval is the time between two reads of the record. Default 2s.
	PollInterval time.Duration
	// LeaseDuration is the lease of an entry that carries none. Default 10s, at most 24h.
	LeaseDuration time.Duration
	// Logger and OnEvent are as in Config.
	Logger  *slog.Logger
	OnEvent func(Event)
}

// Observer watches an election without taking part. It writes nothing: the right to SELECT is
// enough once the table exists. It polls, and uses no wake-ups: it sees a change up to a
// PollInterval later, and may miss a short reign. All methods are safe for concurrent use.
type Observer interface {
	// Run watches until ctx ends, and returns ctx.Err(). It blocks. A storage error is reported as
	// an event, and the next poll tries again. When Run is called a second time, it returns an
	// error wrapping ErrAlreadyRun at once.
	Run(ctx context.Context) error
	// GetLeader returns a copy of the last observed leader's entry and true, or nil and false when
	// no leader is known whose lease is still valid here. No I/O.
	GetLeader() (*Member, bool)
	// GetMembers returns copies of the entries of the members whose lease is valid here, sorted by
	// ID; an empty slice if there are none. No I/O.
	GetMembers() []*Member
	// Observe is as in Elector, with Run instead of RunElection.
	Observe(ctx context.Context) <-chan Leadership
}

// NewObserver returns an Observer that does nothing until Run is called. The error says that
// storage is nil, or names the field of config that breaks a rule.
func NewObserver(storage Storage, config ObserverConfig) (Observer, error) {
	setDefault(&config.PollInterval, DefaultRenewInterval)
	setDefault(&config.LeaseDuration, DefaultLeaseDuration)
	switch {
	case isNil(storage):
		return nil, errors.New("election: invalid observer: storage must not be nil")
	case config.PollInterval < 0:
		return nil, fmt.Errorf("election: invalid observer: PollInterval must not be negative, is %v", config.PollInterval)
	case config.LeaseDuration < 0 || config.LeaseDuration > MaxLeaseDuration:
		return nil, fmt.Errorf("election: invalid observer: LeaseDuration must be between 0 and %v, is %v",
			MaxLeaseDuration, config.LeaseDuration)
	}
	config.PollInterval = min(config.PollInterval, forever)
	return &observer{storage: storage, cfg: config, events: newEventQueue(config.Logger, config.OnEvent)}, nil
}

type observer struct {
	storage Storage
	cfg     ObserverConfig
	events  *eventQueue
	once    atomic.Bool
	view    atomic.Pointer[view]
	feed    feed

	// Owned by the goroutine of Run.
	seen            observation
	clock           clock.Clock
	scope           string
	keepsMemberRows bool // the storage can keep members' entries apart from the record
	// oldSince is the moment since which each read returned a record that is older than the newest
	// one seen; 0 if the last read did not.
	oldSince time.Duration
}

func (o *observer) GetLeader() (*Member, bool) { return o.view.Load().leader() }

func (o *observer) GetMembers() []*Member { return o.view.Load().liveMembers() }

func (o *observer) Observe(ctx context.Context) <-chan Leadership { return o.feed.observe(ctx) }

func (o *observer) Run(ctx context.Context) error {
	if o.once.Swap(true) {
		return fmt.Errorf("%w: observer", ErrAlreadyRun)
	}
	defer o.events.start(o.cfg.PollInterval)()
	defer o.feed.end()
	o.clock = clock.From(ctx)
	o.seen = newObservation("", "", o.cfg.LeaseDuration)
	if s, ok := o.storage.(scoped); ok {
		o.scope = s.scope()
	}
	_, o.keepsMemberRows = o.storage.(MemberStorage)
	calls := caller{storage: o.storage, ctx: ctx, timeout: max(o.cfg.PollInterval, time.Second)}
	defer calls.close(o.clock)
	for {
		next := o.poll(ctx, &calls) + o.cfg.PollInterval
		for wait := true; wait; {
			now := o.clock.Now().Mono
			o.publish()
			at := next
			if expiry := o.seen.takeOverAt(); expiry > now {
				at = min(at, expiry)
			}
			timer := o.clock.NewTimer(at - now)
			select {
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			case <-timer.C():
				wait = at < next
			}
		}
	}
}

// poll reads the record once, and then the entries that are kept apart, if they are due. It returns
// the moment at which it began.
func (o *observer) poll(ctx context.Context, calls *caller) time.Duration {
	began := o.clock.Read()
	if calls.busy() {
		return began.Mono
	}
	k := calls.get(began)
	r, ok := o.await(ctx, calls, k)
	if !ok {
		return began.Mono
	}
	calls.answered(k, o.clock.Now().Mono)
	o.handleRecord(r.record, o.clock.Now().Mono)
	if !o.keepsMemberRows || calls.busy() || !o.seen.memberRowsDue(o.clock.Now().Mono, o.cfg.PollInterval) {
		return began.Mono
	}
	if r, ok = o.await(ctx, calls, calls.getMemberRows(o.clock.Read())); ok {
		o.seen.setMemberRows(r.members, r.roster, o.clock.Now().Mono)
	}
	return began.Mono
}

// await waits for k's reply. ok is false if the call failed, was given up, or ctx ended.
func (o *observer) await(ctx context.Context, calls *caller, k *call) (r reply, ok bool) {
	timer := o.clock.NewTimer(k.giveUp - k.started.Mono + calls.grace())
	defer timer.Stop()
	select {
	case r = <-k.done:
	case <-timer.C():
		k.cancel()
		r.err = context.DeadlineExceeded
	case <-ctx.Done():
		return r, false
	}
	switch {
	case errors.Is(r.err, errors.ErrUnsupported):
		o.keepsMemberRows = false
	case r.err != nil:
		o.report(Event{Kind: EventStorageError, Err: k.explain(r.err)})
	}
	return r, r.err == nil
}

// handleRecord takes in a record that was read. A record that is older than what was seen comes
// from a lagging replica, or the history went back. A member finds out by a write, but an observer
// writes nothing. If it reads no newer record for the longest lease that it knows, it counts the
// history as lost.
func (o *observer) handleRecord(rec *Record, now time.Duration) {
	if o.seen.isOld(rec) {
		if o.oldSince == 0 {
			o.oldSince = now
		}
		if now < o.oldSince+o.seen.longestLease {
			return
		}
		o.seen.loseHistory(now)
		o.report(Event{Kind: EventHistoryLost})
	}
	o.oldSince = 0
	before := o.seen.leader
	o.seen.applyRecord(rec, now)
	if after := o.seen.leader; before.id != after.id || before.term != after.term {
		o.report(Event{Kind: EventLeaderObserved, Term: rec.Term})
	}
}

func (o *observer) publish() {
	v := o.seen.show(o.clock, o.scope)
	o.view.Store(&v)
	o.feed.publish(v.current())
}

func (o *observer) report(e Event) {
	e.Time, e.LeaderID = o.clock.Now().Time(), o.seen.leader.id
	o.events.emit(e)
}

package election

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// Elector is one member's part in one election. All methods are safe for
// concurrent use, before, during and after RunElection.
type Elector interface {
	// RunElection takes part in the election until ctx ends, and runs the
	// LeaderCallback whenever this member leads. It blocks, and returns when all
	// it started has stopped: the callback has returned, the leadership is
	// released and this member has left the record, or that was tried for as
	// long as a renewal may take: RenewInterval or (RenewDeadline - RenewInterval) / 3, whichever
	// is longer, and on a slow link up to RenewDeadline - RenewInterval. Only a storage call that ignores its ctx may be left behind.
	//
	// It returns ctx.Err() when ctx ended; an error wrapping ErrCallbackOverrun
	// when a callback is still running; ErrDuplicateMember; a *PanicError; with
	// Config.ExitOnRenewFail an error wrapping ErrLeaseExpired or ErrHistoryLost
	// and the storage's error; ErrAlreadyRun, at once, when called twice.
	RunElection(ctx context.Context) error

	// IsLeader reports whether this member leads, within its trust window. It
	// does no I/O, takes no lock, allocates nothing and reads the clock at most
	// once. It turns false by RenewDeadline after the start of the last
	// acknowledged renewal, whatever else hangs, and when a resignation, transfer
	// or shutdown begins.
	IsLeader() bool

	// Term returns the term in which this member leads and true, or 0 and false
	// when IsLeader is false. It costs what IsLeader costs.
	Term() (term uint64, leading bool)

	// GetLeader returns a copy of the last observed leader, if its lease is
	// still valid here, and whether there is one. No I/O.
	GetLeader() (*Member, bool)

	// GetMembers returns copies of the members whose lease is valid here,
	// sorted by ID. No I/O. The leader's answer is as old as its last look, which is
	// at most RenewInterval plus the storage's latency unless the storage fails; the
	// others hear from the leader, one more RenewInterval later, and in large elections
	// look at most every 10 ms times the number of members. Their RenewTime is that
	// of the last look. A member that has died is listed until the leader has missed it
	// for its lease; while nobody leads, for up to two leases more.
	GetMembers() []*Member

	// ResignLeader gives up the leadership and keeps this member from
	// campaigning for duration, which may be 0. It ends the callback's ctx with
	// ErrResigned, waits for the callback, and returns nil once the leadership is
	// released. On a follower it returns nil at once. Called with a ctx descending
	// from the callback's, it returns once the drain has begun. Errors: ctx.Err(),
	// ErrCallbackOverrun, or a negative duration; with a ctx descending from that of a
	// callback that has returned, ErrNotLeader, and nothing is changed.
	ResignLeader(ctx context.Context, duration time.Duration) error

	// TransferLeader gives the leadership up in favour of the live member
	// memberID, which takes it at its next look at the record. It waits like
	// ResignLeader, with ErrTransferred as cause. A leader that has just taken over first
	// waits for its look at all members; if ctx ends meanwhile, nothing is changed. Errors: ErrNotLeader on a
	// follower, ErrUnknownMember when the target is absent, expired or declines, or its ID
	// is empty (the leadership goes on then), those of ResignLeader. A transfer to the leader
	// itself returns nil and changes nothing. Nil means that the leadership was
	// given up, not that the heir has taken it.
	TransferLeader(ctx context.Context, memberID string) error

	// Observe returns a channel that holds the current Leadership first, then
	// each change. A slow receiver misses intermediate ones, never the latest.
	// The channel is closed when ctx ends. It is also closed when RunElection returns,
	// after a last Leadership without a Leader: nothing is known from then on.
	Observe(ctx context.Context) <-chan Leadership

	// Status returns a snapshot for people and health checks. No I/O.
	Status() Status
}

// NewElector checks config, copies it, and returns an Elector that does nothing
// until RunElection is called.
func NewElector(config Config) (Elector, error) {
	if err := config.AdjustAndValidate(); err != nil {
		return nil, err
	}
	return &elector{
		cfg:      config.clone(),
		requests: make(chan request),
		running:  make(chan struct{}),
		stopped:  make(chan struct{}),
		events:   newEventQueue(config.Logger, config.OnEvent),
	}, nil
}

// elector is what other goroutines see of a member. What it decides from is
// owned by the goroutine of RunElection (see campaign); what it shows is in
// atomically replaced snapshots.
type elector struct {
	cfg      Config
	requests chan request  // to the goroutine of RunElection
	running  chan struct{} // closed when RunElection starts
	stopped  chan struct{} // closed when it answers no more requests
	once     atomic.Bool
	events   *eventQueue

	leading atomic.Pointer[leading] // nil while not leading
	view    atomic.Pointer[view]    // nil before RunElection
	wakeUps atomic.Pointer[wakeUps] // nil before the storage has said anything
	feed    feed

	mu         sync.Mutex
	heldBackTo time.Time // a resignation before RunElection
}

// leading is the reign that this member may believe in.
type leading struct {
	clock clock.Clock
	term  uint64
	trust trust
}

// request is a resignation or, with a target, a transfer.
type request struct {
	ctx    context.Context // of the caller, who is gone when it has ended
	target string
	pause  time.Duration
	inside *reign // the reign whose callback asks, nil if another goroutine does
	answer chan<- error
}

func (e *elector) RunElection(ctx context.Context) error {
	if e.once.Swap(true) {
		return fmt.Errorf("%w: RunElection of member %q", ErrAlreadyRun, e.cfg.ID)
	}
	stopEvents := e.events.start(e.cfg.RenewInterval)
	c := newCampaign(ctx, e)
	err := c.run(ctx)
	e.feed.end()
	close(e.stopped) // before the events are delivered: their receiver may ask something
	e.events.emit(Event{Kind: EventStopped, Time: c.clock.Now().Time(), MemberID: e.cfg.ID, Err: err})
	stopEvents()
	return err
}

func (e *elector) IsLeader() bool {
	_, leading := e.Term()
	return leading
}

func (e *elector) Term() (uint64, bool) {
	l := e.leading.Load()
	if l == nil || !l.trust.believes(l.clock.Now()) {
		return 0, false
	}
	return l.term, true
}

func (e *elector) GetLeader() (*Member, bool) { return e.view.Load().leader() }

func (e *elector) GetMembers() []*Member { return e.view.Load().live() }

func (e *elector) Observe(ctx context.Context) <-chan Leadership { return e.feed.observe(ctx) }

func (e *elector) Status() Status {
	s := Status{ID: e.cfg.ID, State: StateIdle, Members: []*Member{}}
	v := e.view.Load()
	if v == nil {
		return s
	}
	s.State, s.RenewedAt, s.Err = v.state, v.renewedAt, v.err
	if w := e.wakeUps.Load(); w != nil {
		s.Watching, s.WatchErr = w.watching, w.err
	}
	s.Leadership, s.Members = v.current().clone(), v.live()
	if l := e.leading.Load(); l != nil {
		s.TrustLeft = max(0, l.trust.left(l.clock.Now()))
	}
	return s
}

func (e *elector) ResignLeader(ctx context.Context, duration time.Duration) error {
	if duration < 0 {
		return fmt.Errorf("election: resign: duration must not be negative, is %v", duration)
	}
	duration = min(duration, forever)
	e.mu.Lock()
	if !e.isRunning() {
		if to := time.Now().Add(duration); to.After(e.heldBackTo) {
			e.heldBackTo = to
		}
		e.mu.Unlock()
		return nil
	}
	e.mu.Unlock()
	return e.ask(ctx, request{pause: duration}, nil)
}

func (e *elector) TransferLeader(ctx context.Context, memberID string) error {
	if memberID == "" {
		return fmt.Errorf("%w: transfer to an empty ID", ErrUnknownMember)
	}
	if !e.isRunning() {
		return fmt.Errorf("%w: transfer by %q", ErrNotLeader, e.cfg.ID)
	}
	return e.ask(ctx, request{target: memberID}, fmt.Errorf("%w: transfer by %q, which has stopped", ErrNotLeader, e.cfg.ID))
}

func (e *elector) isRunning() bool {
	select {
	case <-e.running:
		return true
	default:
		return false
	}
}

// ask passes r to the goroutine of RunElection and waits for its answer. A callback that asks is
// answered once the drain of its reign has begun, which ends its ctx. So it gives up only
// where ctx ends earlier.
func (e *elector) ask(ctx context.Context, r request, whenStopped error) error {
	answer := make(chan error, 1)
	r.ctx, r.answer = ctx, answer
	r.inside, _ = ctx.Value(insideKey{e}).(*reign)
	done := ctx.Done()
	if r.inside != nil {
		done = nil
	}
	select {
	case e.requests <- r:
	case <-e.stopped:
		if r.inside != nil {
			return errReignOver
		}
		return whenStopped
	case <-done:
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	if r.inside == nil || !r.inside.isOver() {
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-e.stopped:
		return errReignOver
	}
}

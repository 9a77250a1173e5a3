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
	// RunElection takes part in the election until ctx ends, and runs the LeaderCallback whenever
	// this member leads. It blocks.
	//
	// When ctx ends, RunElection ends the callback's ctx and waits for the callback, for at most
	// StopTimeout. Then it tries to release the leadership and to leave the record, for at most
	// RenewInterval or (RenewDeadline - RenewInterval) / 3, whichever is longer. On a slow link it
	// tries for up to RenewDeadline - RenewInterval. It leaves behind only what cannot be ended: a
	// callback that overruns, a storage call that ignores its ctx, a receiver of events that
	// blocks.
	//
	// RunElection returns
	//
	//   - ctx.Err(), when ctx ended
	//   - an error wrapping ErrCallbackOverrun, when a callback is still running
	//   - an error wrapping ErrDuplicateMember, when another live process has this ID
	//   - a *PanicError, when the callback panicked
	//   - with Config.ExitOnRenewFail, an error wrapping ErrLeaseExpired or ErrHistoryLost, and the
	//     storage's last error if there is one
	//   - an error wrapping ErrAlreadyRun, at once, when it is called a second time
	RunElection(ctx context.Context) error

	// IsLeader reports whether this member leads, within its trust window. It turns false when the
	// leadership ends: when a resignation, transfer or shutdown begins, and at the latest
	// RenewDeadline after the start of the last acknowledged renewal, whatever else hangs. It does
	// no I/O, takes no lock, allocates nothing and reads the clock at most once.
	IsLeader() bool

	// Term returns the term in which this member leads and true, or 0 and false
	// when IsLeader is false. It costs what IsLeader costs.
	Term() (term uint64, leading bool)

	// GetLeader returns a copy of the last observed leader's entry and true, or nil and false when
	// no leader is known whose lease is still valid here. No I/O.
	GetLeader() (*Member, bool)

	// GetMembers returns copies of the entries of the members whose lease is valid here, sorted by
	// ID; an empty slice if there are none. No I/O.
	//
	// The answer is as old as this member's last read of all members:
	//
	//   - The leader reads them every RenewInterval. The storage's latency comes on top, and more
	//     when the storage fails.
	//   - The other members hear from the leader that they have to read again, up to one
	//     RenewInterval later. In a large election they read at most once in 10 ms times the number
	//     of members.
	//
	// RenewTime is that of the last read. A member that has died is listed until the leader has
	// missed it for its lease; while no member leads, for up to two leases more.
	GetMembers() []*Member

	// ResignLeader gives up the leadership and keeps this member from campaigning for duration,
	// which may be 0. It ends the callback's ctx with ErrResigned, waits for the callback, and
	// returns nil once the leadership is released.
	//
	//   - On a member that does not lead it returns nil at once. The member still does not campaign
	//     for duration.
	//   - Before RunElection it does the same, and duration counts from the call.
	//   - After RunElection has returned it does nothing and returns nil.
	//   - Called with a ctx that descends from the callback's, it returns nil once the drain has
	//     begun.
	//
	// Errors: ctx.Err(), when ctx ends before the release (a drain that has begun goes on); an
	// error wrapping ErrCallbackOverrun; an error for a negative duration; an error that says why,
	// when RunElection stopped before the release was acknowledged. If ctx descends from that of a
	// callback that has returned, the error wraps ErrNotLeader and nothing is changed.
	ResignLeader(ctx context.Context, duration time.Duration) error

	// TransferLeader gives the leadership up in favour of the live member memberID, the heir. The
	// heir acquires when it next reads the record. TransferLeader waits as ResignLeader does, and
	// the callback's ctx ends with ErrTransferred. Nil means that the leadership was given up, not
	// that the heir has acquired. If memberID is the leader itself, TransferLeader returns nil and
	// changes nothing. This member does not campaign for two RenewIntervals afterwards, whatever
	// becomes of the heir.
	//
	// A leader that has just taken over first waits for its read of all members. If ctx ends
	// meanwhile, nothing is changed.
	//
	// Errors: those of ResignLeader; one wrapping ErrNotLeader on a member that does not lead (also
	// before and after RunElection), or that is giving the leadership up already and not to
	// memberID; one wrapping ErrUnknownMember, when memberID is empty or names a member that is
	// absent, expired or declines. After ErrUnknownMember the leadership goes on.
	TransferLeader(ctx context.Context, memberID string) error

	// Observe returns a channel that holds the current Leadership first, then each change. A slow
	// receiver misses intermediate changes, never the latest. The channel is closed when ctx ends.
	// When RunElection returns, the channel first gets a Leadership without a Leader, as nothing is
	// known from then on, and is closed too. Observe does not block.
	Observe(ctx context.Context) <-chan Leadership

	// Status returns a snapshot for people and health checks. No I/O.
	Status() Status
}

// NewElector checks config, copies it, and returns an Elector that does nothing until RunElection
// is called. The error is that of Config.AdjustAndValidate.
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

// elector is the part of a member that other goroutines see. The state from which the member
// decides belongs to the goroutine of RunElection (see campaign). What elector shows of that state
// is in snapshots, which are replaced atomically.
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
	heldBackTo time.Time // a resignation before RunElection holds until then
}

// leading is the reign that this member may believe in.
type leading struct {
	clock clock.Clock
	term  uint64
	trust trust
}

// request is a resignation or, with a target, a transfer.
type request struct {
	ctx    context.Context // the caller's; when it has ended, the caller waits no more
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
	close(e.stopped) // before the events are delivered, because their receiver may ask
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

func (e *elector) GetMembers() []*Member { return e.view.Load().liveMembers() }

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
	s.Leadership, s.Members = v.current().clone(), v.liveMembers()
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

// ask passes r to the goroutine of RunElection and waits for the answer until ctx ends. If a
// callback asks, the drain that it asks for ends its own ctx. So for a callback the wait goes on
// when ctx has ended because its reign is over, and stops only when ctx ended earlier.
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

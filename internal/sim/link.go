package sim

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sqlelect/election"
)

var (
	// ErrRefused is what a call returns that has done nothing.
	ErrRefused = errors.New("refused by the simulation")
	// ErrLost is what a call returns that has done its work.
	ErrLost = errors.New("reply lost by the simulation")
)

// fate is what becomes of one call. Its times are the world's, and not by a member's clocks.
type fate struct {
	before, after  time.Duration // under way to the storage, and back
	age            int           // how many versions old the record is that a read returns
	lag            time.Duration // how long ago that record was replaced, at most; 0: no limit
	refused, lost  bool
	stalled, stray bool // under way for long; applied even if nobody waits any more
	deaf           bool // ignores its ctx
}

// fates draws what becomes of each call, from one source of chance.
type fates struct {
	mu     sync.Mutex
	dice   *rand.Rand
	faults Faults
	cutTo  time.Time // until then no call gets through
	hole   bool      // until then calls are swallowed, instead of refused
}

func (f *fates) draw() fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, faults := f.dice, &f.faults
	some := func(most time.Duration) time.Duration { return time.Duration(d.Int64N(int64(most) + 1)) }
	// Most delays are a small part of the longest one. None is 0, so that a call and its reply do
	// not share an instant.
	delay := func() time.Duration { return 1 + time.Duration(float64(faults.Delay)*math.Pow(d.Float64(), 8)) }
	x := fate{before: delay(), after: delay()}
	if faults.Stale > 0 && d.Float64() < faults.Stale && faults.Age > 0 {
		x.age, x.lag = 1+d.IntN(faults.Age), faults.Lag
	}
	x.refused = faults.Refused > 0 && d.Float64() < faults.Refused
	x.lost = faults.Lost > 0 && d.Float64() < faults.Lost
	if faults.Stalled > 0 && d.Float64() < faults.Stalled {
		x.stalled = true
		if d.IntN(2) == 0 {
			x.before += some(faults.Stall)
		} else {
			x.after += some(faults.Stall)
		}
		x.stray, x.deaf = d.Float64() < faults.AppliedLate, d.Float64() < faults.IgnoreContext
	}
	// A cut refuses calls, as a closed port does. A hole swallows them: the caller waits until its
	// ctx ends or the cut is over. Either way the call does nothing.
	if cut := time.Until(f.cutTo); cut > 0 {
		x.refused = true
		if f.hole {
			x.stalled, x.before = true, cut+x.before
		}
	}
	return x
}

func (f *fates) set(change func(*fates)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// wire is a way to a storage, on which calls meet their fates. strays has the stalled calls that
// are under way, also those that nobody waits for any more.
type wire struct {
	fates
	strays sync.WaitGroup
}

// send sends work on its way. The delays of a call that is not stalled are waited for, also after
// the end of ctx.
func (w *wire) send(ctx context.Context, work func(fate) error) error {
	x := w.draw()
	if !x.stalled {
		return travel(ctx, x, work)
	}
	// The call may be under way for longer than its caller wants to wait.
	done := make(chan error, 1)
	w.strays.Go(func() { done <- travel(ctx, x, work) })
	if x.deaf {
		return <-done
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// travel is a call on its way there and back. A call whose ctx ends before it has arrived does
// nothing, unless it strays: then it is applied late, as by a server that reads a request from its
// socket when the client has gone.
func travel(ctx context.Context, x fate, work func(fate) error) error {
	time.Sleep(x.before) // virtual time
	if x.refused || ctx.Err() != nil && !x.stray {
		return ErrRefused
	}
	err := work(x)
	time.Sleep(x.after) // virtual time
	if x.lost {
		return ErrLost
	}
	return err
}

func (w *wire) get(ctx context.Context, b backend) (*election.Record, error) {
	// There is room for what a call that strays finds when nobody waits.
	found := make(chan *election.Record, 1)
	err := w.send(ctx, func(x fate) error {
		record, err := b.read(ctx, x.age, x.lag)
		found <- record
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-found, nil
}

func (w *wire) members(ctx context.Context, b backend, ids []string) ([]*election.Member, error) {
	found := make(chan []*election.Member, 1)
	err := w.send(ctx, func(x fate) error {
		members, err := b.members(ctx, x.age, x.lag, ids)
		found <- members
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-found, nil
}

func (w *wire) update(ctx context.Context, what Write, update func(context.Context, Write) error) error {
	// A call that strays outlives its caller's use of what it was given.
	what.Record, what.Before, what.After = what.Record.Clone(), what.Before.Clone(), what.After.Clone()
	return w.send(ctx, func(x fate) error {
		if x.stray {
			ctx = context.WithoutCancel(ctx)
		}
		return update(ctx, what)
	})
}

// backend is what lies at the other end: the simulation's own database, or a Storage of somebody
// else's.
type backend interface {
	// read returns the record as it was that many versions ago, but not as it was before the lag,
	// unless that is 0.
	read(ctx context.Context, age int, lag time.Duration) (*election.Record, error)
	// members returns entries that are kept apart, as they were then.
	members(ctx context.Context, age int, lag time.Duration, ids []string) ([]*election.Member, error)
	update(ctx context.Context, p *process, w Write) error
}

// link is the Storage as one process has it. A process that has died hears of nothing more; one
// that is stopped hears of it when it goes on.
type link struct {
	wire
	process *process
	backend backend
}

var _ election.Storage = (*link)(nil)

// Get implements election.Storage.
func (l *link) Get(ctx context.Context) (*election.Record, error) {
	if l.process.isDead() {
		return nil, ErrRefused
	}
	record, _, err := l.process.meet(func() (*election.Record, []*election.Member, error) {
		record, err := l.get(ctx, l.backend)
		return record, nil, err
	})
	l.process.seat.awake()
	// The elector may have given up a reply that came after the end of ctx. Then it has not read
	// it.
	if err == nil && ctx.Err() == nil {
		l.process.saw(record)
	}
	return record, err
}

// Update implements election.Storage.
func (l *link) Update(ctx context.Context, record *election.Record, isLeaderChanged bool) error {
	return l.write(ctx, Write{Record: record, IsLeaderChanged: isLeaderChanged})
}

// write sends a write of the process. The judge sees an acquisition twice: here, with what the
// process has read by then, and at its commit.
func (l *link) write(ctx context.Context, w Write) error {
	if l.process.isDead() {
		return ErrRefused
	}
	_, _, err := l.process.meet(func() (*election.Record, []*election.Member, error) {
		if w.IsLeaderChanged {
			l.process.world.judge.sends(l.process, w.Record)
		}
		return nil, nil, l.update(ctx, w, func(ctx context.Context, sent Write) error {
			return l.backend.update(ctx, l.process, sent)
		})
	})
	l.process.seat.awake()
	return err
}

// apartLink is a link to a storage that can keep members' entries apart.
type apartLink struct{ *link }

var _ election.MemberStorage = apartLink{}

// GetMembers implements election.MemberStorage.
func (l apartLink) GetMembers(ctx context.Context, ids ...string) ([]*election.Member, error) {
	if l.process.isDead() {
		return nil, ErrRefused
	}
	_, found, err := l.process.meet(func() (*election.Record, []*election.Member, error) {
		found, err := l.members(ctx, l.backend, ids)
		return nil, found, err
	})
	l.process.seat.awake()
	return found, err
}

// UpdateMember implements election.MemberStorage.
func (l apartLink) UpdateMember(ctx context.Context, before, after *election.Member) error {
	return l.write(ctx, Write{Before: before, After: after})
}

// UpdateWithMember implements election.MemberStorage.
func (l apartLink) UpdateWithMember(ctx context.Context, record *election.Record, isLeaderChanged bool, before, after *election.Member) error {
	return l.write(ctx, Write{Record: record, IsLeaderChanged: isLeaderChanged, Before: before, After: after})
}

// ringingLink is a link to a storage that tells of changes of leader: late, and not of all.
// Wake-ups are hints, so the judge holds nothing against them.
type ringingLink struct{ apartLink }

var _ election.Watcher = ringingLink{}

// Watch implements election.Watcher. A wake-up meets a fate like a call: it is late, it is lost, or
// the watch breaks.
func (l ringingLink) Watch(ctx context.Context, changed func()) error {
	rings := l.process.world.bells.add(l.process)
	defer l.process.world.bells.remove(l.process)
	changed()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-rings:
		}
		x := l.draw()
		time.Sleep(x.before) // virtual time
		l.process.seat.awake()
		switch {
		case l.process.isDead():
			return ErrRefused
		case x.lost:
			return ErrLost
		case !x.refused:
			changed()
		}
	}
}

// bells are those who are told of changes of leader. A ring has room for one: it stands for all
// changes since.
type bells struct {
	mu    sync.Mutex
	rings map[*process]chan struct{}
}

func (b *bells) add(p *process) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rings == nil {
		b.rings = map[*process]chan struct{}{}
	}
	b.rings[p] = make(chan struct{}, 1)
	return b.rings[p]
}

func (b *bells) remove(p *process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.rings, p)
}

// ring tells all but the one whose change it was: its ring would come at the same moment as its
// reply.
func (b *bells) ring(by *process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, ring := range b.rings {
		if p == by {
			continue
		}
		select {
		case ring <- struct{}{}:
		default:
		}
	}
}

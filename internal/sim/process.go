package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/clock"
)

// process is one process of a member, from its start to its end or crash.
type process struct {
	world   *world
	id      string
	seat    *seat
	lease   lease
	link    *link
	elector election.Elector
	ctx     context.Context // RunElection's
	cancel  context.CancelFunc
	ended   chan struct{} // closed when RunElection has returned
	err     error         // of RunElection, after ended

	tape     *tape    // what befalls it, if it has, or is, a shadow
	original *process // the process that it is, or was, the shadow of
	shadow   *process // or nil
	clonedAt time.Time

	mu       sync.Mutex
	dice     *rand.Rand // of the callback and what it starts
	dead     bool
	seen     uint64              // the highest term that a read has told it
	reigns   map[named]time.Time // those that a read has named to it, and when it first did
	acquired map[uint64]uint64   // by term: the history in which that was committed
	told     map[uint64]bool     // the term floors that a read has told it
	calls    int                 // of its storage, so far
	writes   int                 // guarded ones
}

// behaviour is what one callback does. Its times are the world's.
type behaviour struct {
	quits  time.Duration // how long it works before it returns; 0: until its ctx ends
	fails  bool          // it returns an error then
	resign bool          // resigns from inside when it would quit
	stop   time.Duration // how long it takes to return once its ctx has ended
	ghost  time.Duration // how long after its end something that it started writes; 0: nothing
	writes time.Duration // from one guarded write to the next, on average
}

var errCallback = errors.New("the callback failed, as the simulation wanted")

// origins are the sources of chance of one process. A shadow begins them anew, so they bring the
// same.
type origins struct{ own, seat, tokens, fates uint64 }

// start runs a new process of the member id on m, and sometimes its shadow. A world at rest has no
// shadows: nothing is cloned there.
func (w *world) start(id string, m *machine) *process {
	o := origins{w.stream(), w.stream(), w.stream(), w.stream()}
	if !w.plan.clones || w.quiet.Load() || w.dice.IntN(2) == 0 {
		return w.startAs(id, m, o, nil, nil)
	}
	t := newTape()
	p := w.startAs(id, m, o, t, nil)
	p.shadow = w.startAs(id, m, o, t, p)
	return p
}

// startAs runs a process that writes t, or the shadow of one, which reads it. Whether it can keep
// its entry apart, and is woken, is drawn. A process with a shadow is not woken: a wake-up would
// come to only one of the two.
func (w *world) startAs(id string, m *machine, o origins, t *tape, original *process) *process {
	dice := w.diceOf(o.own)
	p := &process{
		world: w, id: id, seat: newSeat(m, w.diceOf(o.seat), w.diceOf(o.tokens)), dice: dice, lease: w.plan.drawLease(dice, m.rate),
		ended: make(chan struct{}), acquired: map[uint64]uint64{}, told: map[uint64]bool{}, reigns: map[named]time.Time{}, tape: t, original: original,
	}
	p.link = &link{wire: wire{fates: fates{dice: w.diceOf(o.fates), faults: w.plan.faults}}, process: p, backend: w.backend()}
	ctx, cancel := context.WithCancel(clock.With(context.Background(), p.seat))
	p.ctx, p.cancel = ctx, cancel
	callback := p.callback
	if w.options.Callback != nil {
		callback = p.foreign
	}
	var storage election.Storage = p.link
	if w.plan.apart && (!w.plan.mixed || dice.IntN(3) > 0) {
		storage = apartLink{p.link}
		if w.plan.rings && t == nil {
			storage = ringingLink{apartLink{p.link}}
		}
	}
	config := election.Config{
		ID: id, Storage: storage, LeaderCallback: callback,
		LeaseDuration: p.lease.duration, RenewInterval: p.lease.renewInterval,
		RenewDeadline: p.lease.renewDeadline, StopTimeout: p.lease.stopTimeout,
	}
	if original == nil {
		w.trace.add(id, "start", 0, uint64(p.lease.duration))
	}
	elector, err := election.NewElector(config)
	if err != nil {
		w.judge.fail("%s could not be started: %v", id, err)
		close(p.ended)
		return p
	}
	p.elector = elector
	w.running.Go(func() {
		defer close(p.ended)
		p.err = elector.RunElection(ctx)
	})
	return p
}

// machine is the one that it runs on.
func (p *process) machine() *machine { return p.seat.on.Load() }

// crash ends the process at once: nothing of it runs on, but for what is on its way to the
// database. Its elector and its callback still end by their ctx, and what they do meanwhile reaches
// nobody.
func (p *process) crash() {
	p.mu.Lock()
	again := p.dead
	p.dead = true
	p.mu.Unlock()
	if again {
		return
	}
	if p.isShadow() {
		p.loosen()
	} else {
		p.world.trace.add(p.id, "crash", 0, 0)
	}
	p.world.judge.gone(p)
	p.cancel()
	if p.shadow != nil && p.shadow.isShadow() {
		p.shadow.crash()
	}
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// stopping reports whether its ctx has ended.
func (p *process) stopping() bool { return p.ctx.Err() != nil }

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// saw takes note of what a read has told the process. The judge holds the process to it.
func (p *process) saw(r *election.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = max(p.seen, r.Term, r.TermFloor)
	if reign := (named{r.LeaderID, r.Term, r.Version}); p.reigns[reign].IsZero() {
		p.reigns[reign] = time.Now()
	}
	if r.TermFloor > r.Term {
		p.told[r.TermFloor] = true
	}
}

func (p *process) hasSeen() (term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// missed reports whether the loss of all versions above kept, at that moment, may have passed p by.
// Then G2 does not bind p: it assumes that no acknowledged write is lost. Two things bind p all the
// same:
//
//   - p had read a record of r that was lost. (Later records are of the new history, which may go
//     on naming r.)
//   - Others have left word of r's term, in a term floor. (A higher term alone may be of a history
//     that knows nothing of r.) If r's acquisition was kept, the record itself tells of the term:
//     then only renewals were lost, of which r's own process alone need know.
func (p *process) missed(r *reign, kept int64, lost time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for read, at := range p.reigns {
		if read.id == r.process.id && read.term == r.term && read.version > kept && !at.After(lost) {
			return false
		}
	}
	return !p.told[r.term] || r.version > 0 && r.version <= kept
}

// named is a reign as a version of the record names it.
type named struct {
	id      string
	term    uint64
	version int64
}

// acquires takes note of the history in which p acquired term.
func (p *process) acquires(term, history uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acquired[term] = history
}

// draw is a duration between a tenth of mean and 2.1 times mean.
func (p *process) draw(mean time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return mean/10 + time.Duration(p.dice.Int64N(int64(2*mean)))
}

// behave draws what the next callback does. At rest it only works and returns in time.
func (p *process) behave() behaviour {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, l := p.dice, p.lease
	b := behaviour{stop: l.stop, writes: 3 * l.renewInterval}
	if p.world.quiet.Load() {
		return b
	}
	if d.IntN(5) == 0 {
		b.quits = 1 + time.Duration(d.Int64N(int64(10*l.duration)))
		b.fails, b.resign = d.IntN(3) == 0, d.IntN(3) == 0
	}
	if p.world.plan.overruns && d.IntN(6) == 0 {
		b.stop = time.Duration(d.Int64N(int64(4 * l.duration)))
	}
	if d.IntN(2) == 0 {
		b.ghost = 1 + time.Duration(d.Int64N(int64(3*l.duration)))
	}
	return b
}

// callback is the LeaderCallback. It writes to the ledger under the guard until its ctx ends, takes
// its time to return, and may leave something behind.
func (p *process) callback(ctx context.Context) error {
	p.world.running.Add(1) // it may outlive RunElection
	defer p.world.running.Done()
	leadership, _ := election.LeadershipFromContext(ctx)
	r := p.world.judge.enter(p, leadership.Term, ctx)
	b := p.behave()
	p.work(ctx, b)
	if ctx.Err() == nil && b.resign {
		// From inside its callback a resignation returns when the drain has begun: the ctx ends
		// soon.
		_ = p.elector.ResignLeader(ctx, 0)
		<-ctx.Done()
	}
	late := context.WithoutCancel(ctx)
	// A callback that returns of its own accord takes no time. After the end of its ctx it still
	// writes: that may be committed while no other member has acquired.
	if ctx.Err() != nil && !p.isDead() {
		p.pass(late, b.stop/2)
		p.write(late)
		p.pass(late, b.stop-b.stop/2)
	}
	// What a callback leaves behind writes in the old term, when another member may lead. G3 has to
	// hold.
	if b.ghost > 0 {
		p.world.running.Go(func() {
			p.pass(late, b.ghost)
			p.write(late)
		})
	}
	p.world.judge.exit(r)
	if b.fails {
		return errCallback
	}
	return nil
}

// foreign runs a callback that is not the simulation's own.
func (p *process) foreign(ctx context.Context) error {
	p.world.running.Add(1) // it may outlive RunElection
	defer p.world.running.Done()
	leadership, _ := election.LeadershipFromContext(ctx)
	r := p.world.judge.enter(p, leadership.Term, ctx)
	defer p.world.judge.exit(r)
	return p.world.options.Callback(ctx, p.id)
}

// work writes now and then, until ctx ends or the behaviour quits. At rest nothing quits.
func (p *process) work(ctx context.Context, b behaviour) {
	quit := time.Now().Add(b.quits)
	for ctx.Err() == nil && !p.isDead() && (b.quits == 0 || time.Now().Before(quit) || p.world.quiet.Load()) {
		p.pass(ctx, p.draw(b.writes))
		if ctx.Err() == nil {
			p.write(ctx)
		}
	}
}

// pass lets d go by, or what there is until ctx ends. If the machine is stopped then, it returns
// when the machine goes on.
func (p *process) pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(max(d, 1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	p.seat.awake()
}

// write makes a guarded entry in the ledger, held to the term that ctx carries. It does so also
// after the end of ctx: the guard must not rely on a program that heeds its ctx.
func (p *process) write(ctx context.Context) {
	leadership, _ := election.LeadershipFromContext(ctx)
	if p.isDead() || p.world.database == nil {
		return
	}
	w, work := p.world, p.draw(guardedWork)
	played, shadow := p.plays(&p.writes)
	if shadow {
		played.wait(p)
		return
	}
	defer played.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), guardTimeout)
	defer cancel()
	share, err := w.database.Guard(ctx, p.id, leadership.Term)
	if err != nil {
		w.judge.refused(err)
		return
	}
	// The transaction ends once: by this process, or by the database, which rolls back what takes
	// too long.
	var once sync.Once
	timer := time.AfterFunc(guardTimeout, func() { once.Do(func() { share.Release(nil) }) })
	defer timer.Stop()
	p.pass(ctx, work)
	once.Do(func() {
		share.Release(func(now *election.Record) {
			if !p.isDead() {
				w.judge.commit(p, leadership.Term, now)
			}
		})
	})
}

const (
	guardedWork  = 10 * time.Millisecond
	guardTimeout = time.Second // after which the database rolls back
)

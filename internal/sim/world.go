package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sqlelect/election"
)

// Options say what is common to the worlds of a run. The zero Options are worlds of an hour, of 2
// to 9 members, with every fault.
type Options struct {
	Members int           // 0: drawn for each world
	Length  time.Duration // of the restless part; 0: an hour
	Faults  *Faults       // nil: drawn for each world
	// Storage opens the election of one world, in its bubble, and returns a function that returns a
	// handle for one more process; what is opened is closed by t.Cleanup. Nil: the simulation's own
	// database, which can also lose its history and hold guarded transactions.
	Storage func(t *testing.T) (handle func() election.Storage)
	// Callback is run whenever a member leads; nil: one that does its worst within the rules.
	Callback func(ctx context.Context, memberID string) error
	// StopWithin is how long Callback may take to return; 0: however long.
	StopWithin time.Duration
}

// Verdict is what came of one world.
type Verdict struct {
	Seed      uint64
	Violation string // "" if every promise held
	Tail      string // what happened last
	Trace     uint64 // hash of everything that happened
	Tally
}

// String is what a person needs to look into a violation.
func (v Verdict) String() string {
	return fmt.Sprintf("seed %d: %s\n%s", v.Seed, v.Violation, v.Tail)
}

// world is one election and all that is around it.
type world struct {
	options  Options
	plan     plan
	dice     *rand.Rand // the script's
	streams  uint64     // sources of chance made so far
	seed     uint64
	trace    *trace
	judge    *judge
	backend  func() backend
	database *Database // nil if the storage is not the simulation's own

	members []*member
	twins   []*process // second processes of members that run already
	old     *older
	bells   bells
	running sync.WaitGroup // everything that outlives the call that started it
	quiet   atomic.Bool
}

// member is one ID, with the machine that its processes run on.
type member struct {
	id      string
	machine *machine
	process *process
}

// Run runs the world of a seed, and returns what came of it. The world ends with its first
// violation. A goroutine that is left behind fails t, by synctest.
func Run(t *testing.T, seed uint64, options Options) (v Verdict) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, options)
		w.run()
		v = Verdict{Seed: seed, Violation: w.judge.verdict(), Trace: w.trace.hash(), Tally: w.judge.Tally}
		if v.Violation != "" {
			v.Tail = w.trace.tail()
		}
	})
	return v
}

func newWorld(t *testing.T, seed uint64, options Options) *world {
	w := &world{options: options, seed: seed, trace: newTrace()}
	w.dice = w.newDice()
	length := options.Length
	if length <= 0 {
		length = time.Hour
	}
	w.plan = newPlan(w.dice, options.Members, length)
	if options.Faults != nil {
		w.plan.faults = *options.Faults
	}
	// The callback could not tell a shadow's from a real one: it would work twice.
	if options.Callback != nil {
		w.plan.clones = false
	}
	w.judge = newJudge(w.trace, options.StopWithin)
	if options.Storage == nil {
		w.database = NewDatabase(64)
		w.backend = func() backend { return ownBackend{w} }
	} else {
		// Only the simulation's own database can be made to forget, and shows its commits to the
		// judge.
		w.plan.loses, w.plan.older, w.plan.clones = false, false, false
		open := options.Storage(t)
		w.backend = func() backend { return &foreignBackend{Storage: open(), judge: w.judge} }
	}
	for i := range w.plan.members {
		dice := w.newDice()
		w.members = append(w.members, &member{id: fmt.Sprintf("m%d", i+1), machine: w.newMachine(dice)})
	}
	return w
}

func (w *world) newMachine(dice *rand.Rand) *machine {
	m := newMachine(w.plan.rate(dice), dice)
	m.tireless = !w.plan.stops && !w.plan.clones
	return m
}

// stream is the number of a source of chance that nobody has used.
func (w *world) stream() uint64 {
	w.streams++
	return w.streams
}

// diceOf returns the source of chance of that number, from its beginning.
func (w *world) diceOf(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, stream)) }

// newDice returns a source of chance with one user.
func (w *world) newDice() *rand.Rand { return w.diceOf(w.stream()) }

// run starts the members one after the other, has the script go on for its time, lets the world
// come to rest, and ends it.
func (w *world) run() {
	for _, m := range w.members {
		w.wait(time.Duration(w.dice.Int64N(int64(time.Second))) + 1)
		m.process = w.start(m.id, m.machine)
	}
	if w.plan.older {
		w.old = w.startOlder()
	}
	w.restless()
	if w.failed() == nil {
		w.rest()
	}
	w.end()
}

// wait lets d pass, or what there is until the first violation.
func (w *world) wait(d time.Duration) {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.judge.failed:
	}
}

// end stops everything at once, and waits for what is still under way: a bubble ends only when all
// of its goroutines have.
func (w *world) end() {
	w.quiet.Store(true)
	w.crashGuests()
	for _, m := range w.members {
		m.process.crash()
	}
	w.running.Wait()
	for _, m := range w.members {
		m.process.link.strays.Wait()
	}
}

// crashGuests ends the processes that are not to stay: the member of the four-column version,
// second processes under an ID, clones and shadows.
func (w *world) crashGuests() {
	if w.old != nil {
		w.old.crash()
	}
	for _, p := range w.twins {
		p.crash()
	}
	for _, m := range w.members {
		if p := m.process; p != nil && p.shadow != nil {
			p.shadow.crash()
		}
	}
}

func (w *world) failed() error {
	select {
	case <-w.judge.failed:
		return errViolated
	default:
		return nil
	}
}

// ownBackend is the simulation's database.
type ownBackend struct{ *world }

func (b ownBackend) read(_ context.Context, age int, lag time.Duration) (*election.Record, error) {
	return b.database.Read(age, lag), nil
}

// lockWait is how long the database lets a change of leader wait, whatever its caller does.
const lockWait = 2 * time.Second

func (b ownBackend) members(_ context.Context, age int, lag time.Duration, ids []string) ([]*election.Member, error) {
	return b.database.ReadMembers(age, lag, ids), nil
}

func (b ownBackend) update(ctx context.Context, p *process, w Write) error {
	if w.IsLeaderChanged {
		limited, cancel := context.WithTimeout(ctx, lockWait)
		defer cancel()
		ctx = limited
	}
	w.Stored = func(before, after *election.Record) {
		b.judge.stored(p, before, after, w.IsLeaderChanged)
		if w.IsLeaderChanged {
			b.bells.ring(p)
		}
	}
	return b.database.Update(ctx, w)
}

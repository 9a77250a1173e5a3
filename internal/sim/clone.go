package sim

import (
	"maps"
	"sync"
	"testing/synctest"
	"time"

	"github.com/sqlelect/election"
)

// A process cannot be copied while it runs. But what it does follows from what befalls it: the
// replies that it gets, the time on its machine, its dice. So a process that may be cloned has a
// shadow from its start on. The shadow is a second process that gets the same and touches nothing.
// A shadow that is let loose is a clone of its process in that moment.

// tape holds what befalls a process, for its shadow. The one of the two that comes first to a play
// adds it, and the other one takes it away.
type tape struct {
	mu    sync.Mutex
	plays map[play]*played
	loose chan struct{} // closed when the shadow is let loose, or ends
}

// play names a call of the storage, or a guarded write: it is the n-th one. The two processes count
// alike, because they do the same.
type play struct {
	write bool
	n     int
}

// played is how a play went.
type played struct {
	over    chan struct{} // closed when the rest is known; nil for a process without a shadow
	record  *election.Record
	members []*election.Member
	err     error
}

func newTape() *tape { return &tape{plays: map[play]*played{}, loose: make(chan struct{})} }

// plays counts on, and returns what is to be played, and whether p is a shadow, which only waits
// for it. A process without a shadow plays for nobody.
func (p *process) plays(count *int) (*played, bool) {
	if p.tape == nil || p.tape.isOver() {
		return &played{}, false
	}
	p.mu.Lock()
	*count++
	what := play{count == &p.writes, *count}
	p.mu.Unlock()
	p.tape.mu.Lock()
	defer p.tape.mu.Unlock()
	x, known := p.tape.plays[what]
	if known {
		// The other one has come first. Nobody asks for this play again.
		delete(p.tape.plays, what)
	} else {
		x = &played{over: make(chan struct{})}
		p.tape.plays[what] = x
	}
	return x, p.isShadow()
}

// end lets the shadow go on.
func (x *played) end() {
	if x.over != nil {
		close(x.over)
	}
}

// wait returns when the original has come so far, with the error that it got. If the shadow is let
// loose before, the call fails: a clone's connections are broken.
func (x *played) wait(p *process) error {
	select {
	case <-x.over:
		return x.err
	case <-p.tape.loose:
		return ErrLost
	}
}

// isOver reports whether there is no shadow any more: it was let loose, or has ended.
func (t *tape) isOver() bool {
	select {
	case <-t.loose:
		return true
	default:
		return false
	}
}

// isShadow reports whether p only does what another process does.
func (p *process) isShadow() bool { return p.original != nil && !p.tape.isOver() }

// meet makes a call of the storage, or lives through that of the original. The shadow gets copies
// of the reply, because an elector may change what it is given.
func (p *process) meet(call func() (*election.Record, []*election.Member, error)) (*election.Record, []*election.Member, error) {
	x, shadow := p.plays(&p.calls)
	if shadow {
		if err := x.wait(p); err != nil {
			return nil, nil, err
		}
		return x.record, x.members, nil
	}
	record, members, err := call()
	x.record, x.members, x.err = record.Clone(), nil, err
	for _, m := range members {
		x.members = append(x.members, m.Clone())
	}
	x.end()
	return record, members, err
}

// both does to p, and to its shadow, what befalls p: a shutdown, a resignation, a transfer.
func (p *process) both(do func(*process)) {
	do(p)
	if p.shadow != nil && p.shadow.isShadow() {
		do(p.shadow)
	}
}

// clone plays a snapshot of p's machine that is resumed beside it. It lets the shadow of p loose,
// on a machine in the same state. The clone goes on after a while, with clocks that have stood
// still, or not. It does nothing if p has no shadow, or is stopped.
//
// The judge lets the two lead side by side for as long as neither needs to know of the other (see
// alike).
func (w *world) clone(p *process, after time.Duration, frozen bool) {
	s := p.shadow
	if s == nil || !s.isShadow() || s.hasEnded() || p.machine().idle() > 0 {
		return
	}
	// All that happens in this moment has happened, in both of them.
	synctest.Wait()
	// A shadow that is not where its original is would be no clone. That is a mistake of the
	// simulation.
	if !s.isTrue() {
		w.judge.fail("the shadow of %s does not do what its original does", p.id)
		return
	}
	w.trace.add(p.id, "is cloned, after", uint64(after), 0)
	p.mu.Lock()
	seen, reigns, told, acquired := p.seen, maps.Clone(p.reigns), maps.Clone(p.told), maps.Clone(p.acquired)
	p.mu.Unlock()
	// The clone has read what its original has read, and the judge holds it to that. From here on
	// it draws otherwise.
	s.mu.Lock()
	s.seen, s.reigns, s.told, s.acquired = seen, reigns, told, acquired
	s.dice = w.newDice()
	s.mu.Unlock()
	s.seat.move(p.machine().copy(after, frozen), w.newDice(), w.newDice())
	s.link.set(func(f *fates) { f.dice = w.newDice() })
	w.twins = append(w.twins, s)
	w.judge.cloned(p, s, after)
	close(s.tape.loose)
}

// isTrue reports whether the shadow is where its original is, as far as can be seen from outside.
func (p *process) isTrue() bool {
	type outside struct {
		calls, writes int
		state         election.State
		term          uint64
		left          time.Duration
		renewed       time.Time
	}
	at := func(p *process) outside {
		p.mu.Lock()
		defer p.mu.Unlock()
		s := p.elector.Status()
		return outside{p.calls, p.writes, s.State, s.Leadership.Term, s.TrustLeft, s.RenewedAt}
	}
	return at(p) == at(p.original)
}

// loosen ends what the shadow waits for, as nothing more will befall it.
func (p *process) loosen() { close(p.tape.loose) }

package guard

import (
	"context"
	"runtime"
	"sync"
	"time"
	"weak"
)

// On an engine with one writer whose lock has no queue, whoever runs one transaction after
// the other keeps the lock: it is free for less time than lies between two attempts of those
// who wait for it. So guarded transactions leave gaps.
const (
	// turnsGap is how long the lock is left free. An election's own write asks for it at
	// intervals of at most 5 ms (see sqldb.Backoff and sqldb.OnConn).
	turnsGap = 8 * time.Millisecond
	// turnsRun is for how long guarded transactions follow each other without such a gap.
	turnsRun = 100 * time.Millisecond
)

// Turns keep guarded transactions from starving the elections' own writes, those of this
// process and those of others. A guarded transaction waits for the one that came before it, for
// own writes that are under way, and after a long run of guarded transactions for a gap to pass.
// Nil Turns make nobody wait. Safe for concurrent use.
type Turns struct {
	mu   sync.Mutex
	last chan struct{} // closed when the last turn that was asked for has ended; nil: there was none
	own  *ownWrites    // those that no turn waits for yet

	run   time.Time // the first guarded transaction since the last gap took the lock
	ended time.Time // the last guarded transaction gave the lock back; zero: there was none
}

// ownWrites are writes of the elections' own that are under way.
type ownWrites struct {
	n    int
	done chan struct{} // closed when n has become 0; nil as long as nobody waits
}

// NewTurns returns the turns at one lock.
func NewTurns() *Turns { return &Turns{own: &ownWrites{}} }

// turnsByName are the turns at the locks that several handles of this process share, as long as any of
// these is in use.
var turnsByName = struct {
	sync.Mutex
	of map[string]weak.Pointer[Turns]
}{of: map[string]weak.Pointer[Turns]{}}

// TurnsAt returns the turns at the lock of that name, the same ones in all of the process: gaps that one
// handle leaves are none if another handle fills them.
func TurnsAt(name string) *Turns {
	turnsByName.Lock()
	defer turnsByName.Unlock()
	if t := turnsByName.of[name].Value(); t != nil {
		return t
	}
	t := NewTurns()
	turnsByName.of[name] = weak.Make(t)
	runtime.AddCleanup(t, forgetTurns, name)
	return t
}

func forgetTurns(name string) {
	turnsByName.Lock()
	defer turnsByName.Unlock()
	if turnsByName.of[name].Value() == nil {
		delete(turnsByName.of, name)
	}
}

// Own runs a write of an election's own, for which guarded transactions wait that have not
// asked for the lock yet. It waits for none of them.
func (t *Turns) Own(write func() error) error {
	if t == nil {
		return write()
	}
	t.mu.Lock()
	own := t.own
	own.n++
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		own.n--
		if own.n == 0 && own.done != nil {
			close(own.done)
		}
	}()
	return write()
}

// ownWrites returns a channel that is closed when the own writes under way now have ended,
// or nil if there are none.
func (t *Turns) ownWrites() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.own
	if before.n == 0 {
		return nil
	}
	before.done = make(chan struct{})
	t.own = &ownWrites{} // later ones: this turn does not wait for them
	return before.done
}

// gap is how much longer the lock is to be left free, if that is more than 0.
func (t *Turns) gap() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended.Sub(t.run) < turnsRun {
		return 0
	}
	return turnsGap - time.Since(t.ended)
}

// Turn is that of one guarded transaction. A nil Turn makes nobody wait.
type Turn struct {
	turns *Turns
	done  chan struct{} // closed at its end
	held  bool          // it had the lock
	given bool          // it has ended
}

// Take waits for the turns before, in the order in which they were asked for. Give ends the
// turn that it returns.
func (t *Turns) Take(ctx context.Context) (*Turn, error) {
	if t == nil {
		return nil, nil
	}
	turn := &Turn{turns: t, done: make(chan struct{})}
	t.mu.Lock()
	before := t.last
	t.last = turn.done
	t.mu.Unlock()
	if before == nil {
		return turn, nil
	}
	select {
	case <-before:
		return turn, nil
	case <-ctx.Done():
		go func() { // those behind it wait for the ones before it
			<-before
			turn.Give()
		}()
		return nil, ctx.Err()
	}
}

// Yield waits until the turn's transaction may ask for the lock, each time that it is about
// to.
func (t *Turn) Yield(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if own := t.turns.ownWrites(); own != nil {
		select {
		case <-own:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d := t.turns.gap()
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Held says that the transaction has the lock, until Give.
func (t *Turn) Held() {
	if t == nil {
		return
	}
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	t.held = true
	if now := time.Now(); now.Sub(t.turns.ended) >= turnsGap {
		t.turns.run = now // others had time to take it
	}
}

// Give ends the turn. Later calls do nothing.
func (t *Turn) Give() {
	if t == nil {
		return
	}
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	if t.given {
		return
	}
	t.given = true
	if t.held {
		t.turns.ended = time.Now()
	}
	close(t.done)
}

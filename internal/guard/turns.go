package guard

import (
	"context"
	"runtime"
	"sync"
	"time"
	"weak"
)

// Some engines have one lock for all writers, and no queue at it. There a process that runs one
// transaction after the other keeps the lock: between two transactions the lock is free for less
// time than a waiting process leaves between two attempts. So guarded transactions leave gaps.
const (
	// turnsGap is how long the lock is left free. An election's own write asks for it at least
	// every 5 ms (see sqldb.Backoff and sqldb.OnConn).
	turnsGap = 8 * time.Millisecond
	// turnsRun is how long guarded transactions may follow each other before a gap is due.
	turnsRun = 100 * time.Millisecond
)

// Turns keep guarded transactions from starving the elections' own writes, in this process and in
// others. A guarded transaction waits for the guarded transaction before it, for own writes that
// are under way, and, after a long run of guarded transactions, until a gap has passed. With nil
// Turns nothing waits. Safe for concurrent use.
type Turns struct {
	mu   sync.Mutex
	last chan struct{} // closed when the newest turn has ended; nil: there was none
	own  *ownWrites    // the own writes that no turn waits for yet

	run   time.Time // when the first guarded transaction since the last gap took the lock
	ended time.Time // when the last guarded transaction gave the lock back; zero: there was none
}

// ownWrites counts the elections' own writes that are under way.
type ownWrites struct {
	n    int
	done chan struct{} // closed when n has become 0; nil while no turn waits
}

// NewTurns returns the turns at a lock of its own.
func NewTurns() *Turns { return &Turns{own: &ownWrites{}} }

// turnsByName holds the turns at locks that several handles of this process share. An entry lasts
// as long as a handle uses its turns.
var turnsByName = struct {
	sync.Mutex
	of map[string]weak.Pointer[Turns]
}{of: map[string]weak.Pointer[Turns]{}}

// TurnsAt returns the turns at the lock called name. In one process they are the same for all calls
// with one name: a gap that one handle leaves is worth nothing if another handle fills it.
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

// Own runs write, an election's own write. Guarded transactions that have not asked for the lock
// yet wait for it. It waits for no guarded transaction's turn.
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

// ownWrites returns a channel that is closed when the own writes that are under way now have ended,
// or nil if there are none.
func (t *Turns) ownWrites() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.own
	if before.n == 0 {
		return nil
	}
	before.done = make(chan struct{})
	t.own = &ownWrites{} // for later writes, which this turn does not wait for
	return before.done
}

// gap is how much longer the lock must be left free; not at all if it is 0 or less.
func (t *Turns) gap() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended.Sub(t.run) < turnsRun {
		return 0
	}
	return turnsGap - time.Since(t.ended)
}

// Turn is the turn of one guarded transaction. A nil Turn does nothing and waits for nothing.
type Turn struct {
	turns *Turns
	done  chan struct{} // closed at its end
	held  bool          // its transaction has had the lock
	given bool          // it has ended
}

// Take asks for a turn, and waits until all turns that were asked for earlier have ended. It
// returns ctx.Err() if ctx ends first. The caller ends the turn with Give.
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
		go func() { // the turns behind this one wait for the turns before it
			<-before
			turn.Give()
		}()
		return nil, ctx.Err()
	}
}

// Yield waits until the turn's transaction may ask for the lock. The transaction calls it before
// each attempt. It returns ctx.Err() if ctx ends first.
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

// Held notes that the turn's transaction has the lock. It has the lock until Give.
func (t *Turn) Held() {
	if t == nil {
		return
	}
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	t.held = true
	if now := time.Now(); now.Sub(t.turns.ended) >= turnsGap {
		t.turns.run = now // a gap has passed
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

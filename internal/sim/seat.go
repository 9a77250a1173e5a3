package sim

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// seat is a process's place on a machine: it reads that machine's clocks, and has dice of its own.
// What one process draws does not depend on what others on the machine do, such as one that has
// just died.
type seat struct {
	on atomic.Pointer[machine]

	mu     sync.Mutex
	dice   *rand.Rand
	tokens *rand.Rand // for what no copy of the process may draw
}

var _ clock.Clock = (*seat)(nil)

func newSeat(m *machine, dice, tokens *rand.Rand) *seat {
	s := &seat{dice: dice, tokens: tokens}
	s.on.Store(m)
	return s
}

// move puts the process on another machine, with other dice.
func (s *seat) move(m *machine, dice, tokens *rand.Rand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on.Store(m)
	s.dice, s.tokens = dice, tokens
}

func (s *seat) Now() clock.Instant { return s.on.Load().now() }

func (s *seat) Read() clock.Instant { return s.Now() }

func (s *seat) Jitter(most time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.dice.Int64N(int64(max(most, 0)) + 1))
}

func (s *seat) Random() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens.Uint64()
}

// idle is for how long the process does nothing, 0 while its machine runs. When the machine goes
// on, what has waited for it goes on one after the other, in an order that the dice give.
func (s *seat) idle() time.Duration {
	d := s.on.Load().idle()
	if d == 0 {
		return 0
	}
	return d + time.Microsecond + s.Jitter(time.Millisecond)
}

// awake returns when the machine runs. It follows each wait of a process, because a process that is
// stopped sees what it has waited for only later.
func (s *seat) awake() {
	for d := s.idle(); d > 0; d = s.idle() {
		time.Sleep(d) // virtual time
	}
}

// plainTimer is a timer of a machine that never stops.
type plainTimer struct{ *time.Timer }

func (t plainTimer) C() <-chan time.Time { return t.Timer.C }

// alarm is a timer of a machine that may have stopped when it is due.
type alarm struct {
	seat *seat
	due  time.Duration // by the monotonic clock
	ring chan time.Time

	mu    sync.Mutex
	timer *time.Timer
	off   bool
}

func (s *seat) NewTimer(d time.Duration) clock.Timer {
	m := s.on.Load()
	if m.tireless {
		return plainTimer{time.NewTimer(m.real(d))}
	}
	a := &alarm{seat: s, due: m.now().Mono + d, ring: make(chan time.Time, 1)}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timer = time.AfterFunc(m.real(d), a.fire)
	return a
}

// fire rings if the moment has come and the machine runs, else tries again. The moment comes later
// than it was set for if the machine has slept, because its monotonic clock has stood still.
func (a *alarm) fire() {
	again := a.seat.idle()
	if left := a.due - a.seat.Now().Mono; again == 0 && left > 0 {
		again = a.seat.on.Load().real(left)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.off:
	case again > 0:
		a.timer.Reset(again)
	default:
		a.ring <- time.Now()
	}
}

func (a *alarm) C() <-chan time.Time { return a.ring }

func (a *alarm) Stop() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	active := !a.off && len(a.ring) == 0
	a.off = true
	a.timer.Stop()
	return active
}

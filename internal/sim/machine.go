package sim

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// machine is the computer that a member runs on: its clocks, its dice, and
// whether it runs at all. Its monotonic clock ticks at a rate of its own; its wall
// clock steps; while it sleeps, its monotonic clock stands still and its boot
// clock does not; while its process is stopped, all clocks go on.
type machine struct {
	rate float64 // seconds of its clocks in one second
	// tireless: it is never to stop, which saves time.
	tireless bool

	born time.Time
	base time.Duration // of the wall clock, at birth

	mu      sync.Mutex
	dice    *rand.Rand
	step    time.Duration // of the wall clock so far
	slept   time.Duration // of the monotonic clock, missed so far
	dozedAt time.Time     // since when it sleeps; zero if it does not
	idleTo  time.Time     // it does nothing before
	stops   int           // how often it was stopped or slept
	stopped time.Time     // the last moment at which it did nothing
}

var _ clock.Clock = (*machine)(nil)

const bootLead = 1000 * time.Second // the boot clock is ahead of the monotonic one from the start

func newMachine(rate float64, dice *rand.Rand) *machine {
	now := time.Now()
	return &machine{rate: rate, born: now, base: time.Duration(now.UnixNano()) + time.Duration(dice.Int64N(int64(time.Hour))), dice: dice}
}

func (m *machine) scale(d time.Duration) time.Duration { return time.Duration(float64(d) * m.rate) }

func (m *machine) Now() clock.Instant {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at(now)
}

func (m *machine) at(now time.Time) clock.Instant {
	slept := m.slept
	if !m.dozedAt.IsZero() {
		slept += now.Sub(m.dozedAt)
	}
	lived := now.Sub(m.born)
	return clock.Instant{
		Mono: m.scale(lived - slept),
		Boot: m.scale(lived) + bootLead,
		Wall: m.base + m.scale(lived) + m.step,
	}
}

func (m *machine) Read() clock.Instant { return m.Now() }

func (m *machine) Jitter(most time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(m.dice.Int64N(int64(max(most, 0)) + 1))
}

// stepWall sets the wall clock, and nothing else, by d.
func (m *machine) stepWall(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step += d
}

// stop lets the machine do nothing for d. Asleep, it misses that time.
func (m *machine) stop(d time.Duration, asleep bool) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Before(m.idleTo) {
		return
	}
	m.stops++
	m.idleTo, m.stopped = now.Add(d), now.Add(d)
	if asleep {
		m.dozedAt = now
		time.AfterFunc(d, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.dozedAt = time.Time{}
			m.slept += d
		})
	}
}

// stoppedSince reports whether the machine did nothing at some moment from then
// on.
func (m *machine) stoppedSince(then time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stops > 0 && !m.stopped.Before(then)
}

// idle is for how long nothing happens on the machine, 0 while it runs. What
// waits for that goes on one after the other.
func (m *machine) idle() time.Duration {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !now.Before(m.idleTo) {
		return 0
	}
	return m.idleTo.Sub(now) + time.Microsecond + time.Duration(m.dice.Int64N(int64(time.Millisecond)))
}

// awake returns when the machine runs.
func (m *machine) awake() {
	for d := m.idle(); d > 0; d = m.idle() {
		time.Sleep(d) // virtual time
	}
}

// plainTimer is a timer of a machine that never stops.
type plainTimer struct{ *time.Timer }

func (t plainTimer) C() <-chan time.Time { return t.Timer.C }

// alarm is a timer of a machine that may have stopped when it is due.
type alarm struct {
	m    *machine
	due  time.Duration // by the monotonic clock
	ring chan time.Time

	mu    sync.Mutex
	timer *time.Timer
	off   bool
}

func (m *machine) NewTimer(d time.Duration) clock.Timer {
	if m.tireless {
		return plainTimer{time.NewTimer(m.real(d))}
	}
	a := &alarm{m: m, due: m.Now().Mono + d, ring: make(chan time.Time, 1)}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timer = time.AfterFunc(m.real(d), a.fire)
	return a
}

// real is how long d of the machine's clocks takes while it runs.
func (m *machine) real(d time.Duration) time.Duration {
	return time.Duration(float64(max(d, 0))/m.rate) + 1
}

// fire rings if the moment has come and the machine runs, else tries again.
func (a *alarm) fire() {
	again := a.m.idle()
	if left := a.due - a.m.Now().Mono; again == 0 && left > 0 {
		again = a.m.real(left)
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

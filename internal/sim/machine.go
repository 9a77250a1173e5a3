package sim

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// machine is the computer that a member runs on: its clocks, and whether it runs at all.
//
//   - Its monotonic and its boot clock tick at a rate of its own.
//   - Its wall clock has this rate too, and steps.
//   - While it sleeps, its monotonic clock stands still and its boot clock does not.
//   - While it is stopped, as by SIGSTOP, all clocks go on.
type machine struct {
	rate float64 // seconds of its clocks in one second
	// tireless: it is never to stop, so its timers need not ask whether it runs.
	tireless bool

	born time.Time
	base time.Duration // of the wall clock, at birth

	mu      sync.Mutex
	step    time.Duration // of the wall clock so far
	slept   time.Duration // what the monotonic clock has missed so far
	dozedAt time.Time     // since when it sleeps; zero if it does not
	idleTo  time.Time     // it does nothing before
	stops   int           // how often it was stopped or slept
	stopped time.Time     // the last moment at which it did nothing
}

const bootLead = 1000 * time.Second // the boot clock is ahead of the monotonic one from the start

func newMachine(rate float64, dice *rand.Rand) *machine {
	now := time.Now()
	return &machine{rate: rate, born: now, base: time.Duration(now.UnixNano()) + time.Duration(dice.Int64N(int64(time.Hour)))}
}

func (m *machine) scale(d time.Duration) time.Duration { return time.Duration(float64(d) * m.rate) }

func (m *machine) now() clock.Instant {
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

// copy is another machine in the same state; m runs. If it goes on only after a while, either its
// clocks have stood still meanwhile (a snapshot), or not (a copy that was stopped).
func (m *machine) copy(after time.Duration, frozen bool) *machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &machine{rate: m.rate, tireless: m.tireless, born: m.born, base: m.base, step: m.step, slept: m.slept,
		stops: m.stops, stopped: m.stopped}
	if after > 0 {
		c.stops++
		c.idleTo = time.Now().Add(after)
		c.stopped = c.idleTo
		if frozen {
			c.born = c.born.Add(after)
		}
	}
	return c
}

// stepWall sets the wall clock, and nothing else, by d.
func (m *machine) stepWall(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step += d
}

// stop lets the machine do nothing for d. Asleep, it misses that time. A machine that is stopped
// already is left as it is.
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

// stoppedSince reports whether the machine did nothing at some moment from then on. G2 promises
// nothing for such a process.
func (m *machine) stoppedSince(then time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stops > 0 && !m.stopped.Before(then)
}

// idle is for how long nothing happens on the machine, 0 while it runs.
func (m *machine) idle() time.Duration {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(0, m.idleTo.Sub(now))
}

// real is how long d of the machine's clocks takes while it runs. The nanosecond makes up for
// rounding.
func (m *machine) real(d time.Duration) time.Duration {
	return time.Duration(float64(max(d, 0))/m.rate) + 1
}

// Package clock reads the three clocks that the elector's safety depends on, and
// lets a simulation put skewed ones in their place.
//
// A leader must not outlive its lease on any clock, so its trust is measured on
// whichever ran faster; an observer must not cut a lease short, so it waits on
// the monotonic clock alone.
package clock

import (
	"context"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// Instant is one reading. Only differences between readings of one Clock mean
// anything, but for Wall.
type Instant struct {
	Mono time.Duration // the monotonic clock; stops while the machine sleeps
	Boot time.Duration // counts sleep too, ignores wall steps; 0 if not read or not available
	Wall time.Duration // since the Unix epoch, as the wall clock has it
}

// Time is the wall clock's part.
func (i Instant) Time() time.Time { return time.Unix(0, int64(i.Wall)) }

// Timer is what a Clock gives for time.NewTimer.
type Timer interface {
	C() <-chan time.Time
	Stop() bool
}

// Clock reads a machine's clocks, and rolls its dice: whatever a run depends on
// besides its inputs comes from here. Safe for concurrent use.
type Clock interface {
	// Now reads Mono and Wall, with one call of time.Now and no allocation.
	Now() Instant
	// Read reads all three; it costs a system call where Boot exists.
	Read() Instant
	// NewTimer fires after d of the monotonic clock.
	NewTimer(d time.Duration) Timer
	// Jitter is uniform in [0, most]; 0 for most ≤ 0.
	Jitter(most time.Duration) time.Duration
	// Random is a number that another process does not draw, a copy of this one
	// included: a snapshot holds the state of every generator inside the process.
	Random() uint64
}

// System returns this machine's clocks.
func System() Clock { return system{base: time.Now()} }

type system struct{ base time.Time }

func (s system) Now() Instant {
	now := time.Now()
	return Instant{Mono: now.Sub(s.base), Wall: time.Duration(now.UnixNano())}
}

func (s system) Read() Instant {
	i := s.Now()
	i.Boot = boottime()
	return i
}

func (system) NewTimer(d time.Duration) Timer { return systemTimer{time.NewTimer(d)} }

func (system) Jitter(most time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(max(most, 0)) + 1))
}

// Random mixes the kernel's generator with the time: that generator may be a copy too,
// when a whole machine was copied.
func (s system) Random() uint64 {
	now := s.Now()
	var b [16]byte
	_, _ = cryptorand.Read(b[:8]) // never fails
	binary.LittleEndian.PutUint64(b[8:], uint64(now.Wall))
	sum := sha256.Sum256(b[:])
	return binary.LittleEndian.Uint64(sum[:])
}

type systemTimer struct{ *time.Timer }

func (t systemTimer) C() <-chan time.Time { return t.Timer.C }

type key struct{}

// With returns a child of ctx under which an elector runs on c. The ctx carries
// it, rather than a configuration field, so that only this module's simulation
// and tests can.
func With(ctx context.Context, c Clock) context.Context { return context.WithValue(ctx, key{}, c) }

// From returns the clock that ctx carries, else the system's.
func From(ctx context.Context) Clock {
	if c, ok := ctx.Value(key{}).(Clock); ok {
		return c
	}
	return System()
}

// Virtual returns the clocks as a testing/synctest bubble has them: without the
// boot clock, which goes on in real time there.
func Virtual() Clock { return virtual{system{base: time.Now()}} }

type virtual struct{ system }

func (v virtual) Read() Instant { return v.Now() }

// Package clock reads the three clocks that the elector's safety depends on. A simulation can put
// skewed clocks in their place.
//
// A leader must not outlive its lease on any clock, so its trust is measured by the clock that ran
// faster. An observer must not cut a lease short, so it waits by the monotonic clock alone.
package clock

import (
	"context"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// Instant is one reading of the clocks. Mono and Boot mean something only as differences between
// two readings of one Clock.
type Instant struct {
	Mono time.Duration // the monotonic clock; stops while the machine sleeps
	Boot time.Duration // counts sleep too, ignores wall steps; 0 if not read or not available
	Wall time.Duration // since the Unix epoch, as the wall clock has it
}

// Time is the wall clock's part.
func (i Instant) Time() time.Time { return time.Unix(0, int64(i.Wall)) }

// Timer is a Clock's time.Timer.
type Timer interface {
	C() <-chan time.Time
	Stop() bool
}

// Clock reads a machine's clocks and draws its random numbers. Apart from its inputs, a run depends
// on these alone. Safe for concurrent use.
type Clock interface {
	// Now reads Mono and Wall, with one call of time.Now and no allocation.
	Now() Instant
	// Read reads all three; it costs a system call where Boot exists.
	Read() Instant
	// NewTimer fires after d of the monotonic clock.
	NewTimer(d time.Duration) Timer
	// Jitter is uniform in [0, most]; 0 for most ≤ 0.
	Jitter(most time.Duration) time.Duration
	// Random is a number that no other process draws, not even a copy of this one. A generator
	// inside the process does not suffice: a snapshot copies its state.
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

// Random mixes the kernel's generator with the time. If the whole machine was copied, the kernel's
// generator is a copy too.
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

// With returns a child of ctx under which an elector runs on c. The ctx carries the clock, and no
// field of a configuration does, so only this module's simulation and tests can replace it.
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

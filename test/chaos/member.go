//go:build linux

package main

import (
	"context"
	"io"
	"math/rand/v2"
	"os/signal"
	"syscall"
	"time"

	"github.com/sqlelect/election/internal/arena"
)

// memberCommand is the first argument under which the program is a member.
const memberCommand = "member"

// Short, so that a run sees many reigns, and long enough for renewals to get
// through on a busy machine. The margin between the trust and the lease, for the
// callback to return in, is half a second.
const (
	leaseDuration = 2 * time.Second
	renewInterval = 400 * time.Millisecond
	renewDeadline = 1500 * time.Millisecond
	guardTimeout  = 2 * time.Second
)

var lease = arena.Lease{Duration: leaseDuration, RenewInterval: renewInterval, RenewDeadline: renewDeadline}

const (
	poolSize = 20
	// writers append at the same time, in each reign: on SQLite fewer, so that a process
	// is not always stopped within a write.
	serverWriters, fileWriters = 4, 2
	// rest is how long a writer pauses at most after an attempt.
	rest = 60 * time.Millisecond
	// late is how long a writer goes on after its reign, past any lease.
	late = leaseDuration + 500*time.Millisecond
	// lateRest lies between the attempts of such a writer.
	lateRest = 150 * time.Millisecond
	// stallTick and leastStall find moments at which the process did not run.
	stallTick  = 20 * time.Millisecond
	leastStall = 150 * time.Millisecond
)

// runMember takes part until SIGTERM, or until stdin ends, which also happens when
// the stage dies.
func runMember(stdin io.Reader) error {
	ctx, leave := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer leave()
	return arena.RunMember(ctx, stdin, arena.Part{
		Lease:        lease,
		GuardTimeout: guardTimeout,
		Connections:  poolSize,
		Patient:      true,
		Writers:      writers,
		Write:        write,
		Beside:       watchForStalls,
	})
}

func onServer(m *arena.Member) bool { return m.Ledger.Dialect.Name != "SQLite" }

func writers(m *arena.Member) int {
	if onServer(m) {
		return serverWriters
	}
	return fileWriters
}

// write appends while ctx lasts, and then goes on as if nothing had happened:
// without its cancellation the ctx still carries the term. That is what the guard
// is for.
func write(ctx context.Context, m *arena.Member) {
	for ctx.Err() == nil {
		attempt := ctx
		if rand.IntN(2) == 0 {
			attempt = context.WithoutCancel(ctx) // may be under way when the reign ends
		}
		m.Append(attempt, !m.Unguarded, work(m))
		arena.Pause(ctx, rand.N(rest))
	}
	for until := time.Now().Add(late); time.Now().Before(until); {
		m.Append(context.WithoutCancel(ctx), !m.Unguarded, work(m))
		arena.Pause(context.Background(), rand.N(lateRest))
	}
}

// work is for how long a guarded transaction does something else: mostly next to
// nothing, now and then long enough to be under way at a change of leader. On SQLite
// it holds up the renewals, and has to be shorter than those allow.
func work(m *arena.Member) time.Duration {
	most, seldom, longest := 4*time.Millisecond, 80*time.Millisecond, 900*time.Millisecond
	if !onServer(m) {
		most, seldom, longest = 2*time.Millisecond, 20*time.Millisecond, 80*time.Millisecond
	}
	switch dice := rand.IntN(20); {
	case dice < 1:
		return rand.N(longest)
	case dice < 3:
		return rand.N(seldom)
	}
	return rand.N(most)
}

// watchForStalls writes down when the process did not run: because it was stopped,
// or because a busy machine did not let it.
func watchForStalls(ctx context.Context, m *arena.Member) {
	tick := time.NewTicker(stallTick)
	defer tick.Stop()
	for last := arena.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := arena.Now()
		if late := now - last; late >= int64(leastStall) {
			m.Note(arena.Line{What: arena.Stalled, For: late})
		}
		last = now
	}
}

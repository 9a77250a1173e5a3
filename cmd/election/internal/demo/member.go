package demo

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/arena"
)

// lease is short, so that the demo ends soon, and long enough for renewals to get
// through on a busy machine.
var lease = arena.Lease{Duration: 2 * time.Second, RenewInterval: 300 * time.Millisecond, RenewDeadline: 1400 * time.Millisecond}

const (
	writeInterval  = 25 * time.Millisecond
	statusInterval = 100 * time.Millisecond
	// lateWrites is how often a woken leader tries to write in its old term.
	lateWrites = 10
)

// The demo's own cues. Both are for the leader of the term.
const (
	cueHold = "hold" // take the gate: no database call is under way from now on
	cueOpen = "open" // leave the gate, also when the term is over
)

// part is what a member does beside what every member does.
type part struct {
	gate     gate
	reporter *reporter
	held     atomic.Bool   // the gate, by the stage's cue
	heldIn   atomic.Uint64 // the term in which it was last held
}

// RunMember is a member's process. It takes part until stdin is closed, which also
// happens when the stage dies.
func RunMember(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	p := &part{gate: newGate(), reporter: newReporter(stdout)}
	return arena.RunMember(ctx, stdin, arena.Part{
		Lease:   lease,
		Wrap:    func(s election.Storage) election.Storage { return gatedStorage{s, p.gate} },
		Writers: func(*arena.Member) int { return 1 },
		Write:   p.write,
		Obey:    p.obey,
		Beside:  p.inform,
		Mirror:  func(l arena.Line) { p.reporter.send(report{Line: &l}) },
	})
}

// write appends entries for as long as the member leads. A leader that was stopped,
// and whose lease ran out meanwhile, goes on as if nothing had happened: without its
// cancellation the ctx still carries the term. That is what the guard is for.
func (p *part) write(ctx context.Context, m *arena.Member) {
	tick := time.NewTicker(writeInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			p.append(ctx, m)
		case <-ctx.Done():
		}
	}
	if p.heldIn.Load() != arena.TermOf(ctx) {
		return
	}
	for range lateWrites {
		p.append(context.WithoutCancel(ctx), m)
		<-tick.C
	}
}

// append writes one entry: with the guard, but where the demo shall show what
// happens without. The gate is left after the outcome is written down: an outcome
// that is logged after a freeze is of an attempt that began after it.
func (p *part) append(ctx context.Context, m *arena.Member) {
	if p.gate.pass(ctx) != nil {
		return // no attempt was made
	}
	defer p.gate.leave()
	m.Append(ctx, !m.Unguarded || p.heldIn.Load() != arena.TermOf(ctx), 0)
}

// inform tells the stage how things look from here, until ctx ends. Then it leaves
// the gate, or a late write would wait for ever.
func (p *part) inform(ctx context.Context, m *arena.Member) {
	defer p.open()
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	for {
		s := m.Elector.Status()
		now := status{State: s.State, Term: s.Leadership.Term, TrustLeft: s.TrustLeft}
		for _, seen := range s.Members {
			now.Sees = append(now.Sees, seen.ID)
		}
		p.reporter.send(report{Status: &now})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *part) obey(ctx context.Context, m *arena.Member, c arena.Cue) error {
	switch c.Verb {
	case cueHold:
		return p.hold(ctx, m, c.Term)
	case cueOpen:
		p.open()
		return nil
	}
	return fmt.Errorf("unknown cue %q", c.Verb)
}

// hold takes the gate, and keeps it if this member still leads then.
func (p *part) hold(ctx context.Context, m *arena.Member, term uint64) error {
	if err := p.gate.pass(ctx); err != nil {
		return err
	}
	p.heldIn.Store(term)
	p.held.Store(true)
	if !m.Leads(term) {
		p.open()
		return fmt.Errorf("%s lost term %d", m.Process.Member, term)
	}
	return nil
}

func (p *part) open() {
	if p.held.CompareAndSwap(true, false) {
		p.gate.leave()
	}
}

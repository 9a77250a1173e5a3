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

// lease is short, so that the demo ends soon, and long enough for renewals to get through on a busy
// machine. It leaves a callback 600 ms to return in.
var lease = arena.Lease{Duration: 2 * time.Second, RenewInterval: 300 * time.Millisecond, RenewDeadline: 1400 * time.Millisecond}

const (
	// writeInterval is the time between two entries of a leader, statusInterval between two reports
	// of what a member sees.
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

// RunMember is a member's process. It takes part until stdin is closed, which also happens when the
// stage dies. It returns nil if the member could leave the election.
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

// write appends entries for as long as the member leads. A leader that was stopped, and whose lease
// ran out meanwhile, goes on as if nothing had happened. Its ctx is taken without the cancellation,
// and still carries the term. That is what the guard is for.
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
	// Only the leader that the stage has frozen is to write late.
	if p.heldIn.Load() != arena.TermOf(ctx) {
		return
	}
	for range lateWrites {
		p.append(context.WithoutCancel(ctx), m)
		<-tick.C
	}
}

// append writes one entry. It does so without the guard only in the term in which the member was
// frozen, and only if the demo shall show what happens then. The gate is left after the outcome is
// written down: an outcome that is logged after a freeze is of an attempt that began after it.
func (p *part) append(ctx context.Context, m *arena.Member) {
	// The late writes come here too, under a ctx that does not end. So they wait for the cue to
	// open.
	if p.gate.pass(ctx) != nil {
		return // no attempt was made
	}
	defer p.gate.leave()
	m.Append(ctx, !m.Unguarded || p.heldIn.Load() != arena.TermOf(ctx), 0)
}

// inform tells the stage how things look from here, until ctx ends. Then it leaves the gate, or a
// late write would wait for ever, and the process with it.
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

// obey does what a cue of the demo asks for. Its error is the answer that the stage gets.
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

// hold takes the gate, and keeps it if this member still leads then. It waits for the call that is
// under way. If the term is over, the error tells the stage to look for another leader.
func (p *part) hold(ctx context.Context, m *arena.Member, term uint64) error {
	if err := p.gate.pass(ctx); err != nil {
		return err
	}
	// heldIn keeps the term also when the gate is left: write asks for it then.
	p.heldIn.Store(term)
	p.held.Store(true)
	if !m.Leads(term) {
		p.open()
		return fmt.Errorf("%s lost term %d", m.Process.Member, term)
	}
	return nil
}

// open leaves the gate if a cue has taken it. The cue to open and the end of the member may both
// come: only one of the two leaves it.
func (p *part) open() {
	if p.held.CompareAndSwap(true, false) {
		p.gate.leave()
	}
}

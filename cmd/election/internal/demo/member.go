package demo

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/sqldb"
)

// The leases of the demo: short, so that it ends soon, and long enough for
// renewals to get through on a busy machine.
const (
	leaseDuration = 2 * time.Second
	renewInterval = 300 * time.Millisecond
	renewDeadline = 1400 * time.Millisecond
	// stopTimeout leaves a woken leader time for its late writes.
	stopTimeout = 10 * time.Second
)

const (
	writeInterval  = 25 * time.Millisecond
	statusInterval = 100 * time.Millisecond
	// lateWrites is how often a woken leader tries to write in its old term.
	lateWrites = 10
	// cueTimeout bounds a resignation or transfer.
	cueTimeout = 10 * time.Second
)

// member is one process that takes part in the election.
type member struct {
	process
	unguarded bool // after a freeze, write without the guard

	venue    venue
	ledger   *ledger
	storage  *election.SQLStorage
	elector  election.Elector
	gate     gate
	journal  *journal
	reporter *reporter

	held   bool          // the gate, by the goroutine that takes the cues
	heldIn atomic.Uint64 // the term in which it was last held
	broken atomic.Pointer[error]
}

// RunMember is a member's process. It takes part until stdin is closed, which
// also happens when the stage dies, and takes its venue and its cues from there.
func RunMember(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	m := &member{gate: newGate(), reporter: newReporter(stdout)}
	flags := flag.NewFlagSet(MemberCommand, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it
	dir := flags.String("dir", "", "directory of the run")
	flags.StringVar(&m.member, "id", "", "member ID")
	flags.IntVar(&m.run, "run", 1, "number of this process of the member")
	flags.BoolVar(&m.unguarded, "unguarded", false, "write without the guard after a freeze")
	if err := flags.Parse(args); err != nil {
		return err
	}
	lines := bufio.NewScanner(stdin)
	lines.Scan()
	var err error
	if m.venue, err = parseVenue(lines.Text()); err != nil {
		return errors.Join(err, lines.Err())
	}
	return m.venue.redact(m.perform(ctx, *dir, lines))
}

func (m *member) perform(ctx context.Context, dir string, cues *bufio.Scanner) (err error) {
	mirror := func(l line) { m.reporter.send(report{Line: &l}) }
	if m.journal, err = newJournal(m.log(dir), mirror); err != nil {
		return err
	}
	defer m.journal.close()
	if m.ledger, err = m.venue.open(ctx); err != nil {
		return err
	}
	defer m.ledger.close()
	if m.storage, err = m.ledger.storage(); err != nil {
		return err
	}
	m.elector, err = election.NewElector(election.Config{
		ID:             m.member,
		Storage:        gatedStorage{m.storage, m.gate},
		LeaderCallback: m.lead,
		LeaseDuration:  leaseDuration,
		RenewInterval:  renewInterval,
		RenewDeadline:  renewDeadline,
		StopTimeout:    stopTimeout,
		OnEvent:        m.observe,
	})
	if err != nil {
		return err
	}
	return m.takePart(ctx, cues)
}

// takePart runs the elector, and beside it what listens to and informs the
// stage. The listener is not waited for: only the end of stdin ends it.
func (m *member) takePart(ctx context.Context, cues *bufio.Scanner) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	go func() {
		defer leave()
		m.listen(ctx, cues)
	}()
	informed := make(chan struct{})
	go func() {
		defer close(informed)
		m.inform(ctx)
	}()
	err := m.elector.RunElection(ctx)
	leave()
	<-informed
	if broken := m.broken.Load(); broken != nil {
		return *broken
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// note writes a line about this member to its log.
func (m *member) note(l line) {
	l.Member, l.Run = m.member, m.run
	l.Err = sqldb.RedactText(m.venue.dsn, l.Err)
	if err := m.journal.write(l); err != nil {
		m.broken.Store(&err)
	}
}

// observe writes down what the elector reports, where the verdict or the
// viewer can use it.
func (m *member) observe(e election.Event) {
	switch {
	case e.Kind == election.EventJoined:
		m.note(line{What: joined})
	case e.Kind == election.EventStorageError, e.Kind == election.EventHistoryLost, e.Kind == election.EventCallbackOverrun:
		m.note(line{What: troubled, Term: e.Term, Err: fmt.Sprintf("%s: %v", e.Kind, e.Err)})
	}
}

// lead is the leader callback: it appends entries for as long as it leads.
func (m *member) lead(ctx context.Context) error {
	term := termOf(ctx)
	m.note(line{What: entered, Term: term})
	defer func() { m.note(line{What: exited, Term: term}) }()
	tick := time.NewTicker(writeInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.append(ctx)
		case <-ctx.Done():
			if m.heldIn.Load() == term {
				m.insist(ctx, tick.C)
			}
			return nil
		}
	}
}

// insist is what the guard is for: a leader that was stopped, whose lease ran
// out meanwhile, and that goes on writing as if nothing had happened. Without
// its cancellation the ctx still carries the term.
func (m *member) insist(ctx context.Context, tick <-chan time.Time) {
	for range lateWrites {
		m.append(context.WithoutCancel(ctx))
		<-tick
	}
}

// write writes one entry: with the guard, but where the demo shall show what
// happens without.
func (m *member) write(ctx context.Context) (entry, error) {
	if m.unguarded && m.heldIn.Load() == termOf(ctx) {
		return m.ledger.appendUnguarded(ctx, m.member)
	}
	return m.ledger.appendGuarded(ctx, m.storage, m.member)
}

// append writes one entry and logs what came of it. The gate is left after the
// line is written: a line that is logged after a freeze is of an attempt that
// began after it.
func (m *member) append(ctx context.Context) {
	if m.gate.pass(ctx) != nil {
		return // no attempt was made
	}
	defer m.gate.leave()
	e, err := m.write(ctx)
	l := line{Term: e.Term, Seq: e.Seq}
	switch {
	case err == nil:
		l.What = committed
	case errors.Is(err, election.ErrOutcomeUnknown):
		l.What = maybe
	case errors.Is(err, election.ErrNotLeader):
		l.What = refused
	default:
		l.What = failed
	}
	if err != nil {
		l.Err = err.Error()
	}
	m.note(l)
}

// inform tells the stage how things look from here, until ctx ends.
func (m *member) inform(ctx context.Context) {
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	for {
		s := m.elector.Status()
		now := status{State: s.State, Term: s.Leadership.Term, TrustLeft: s.TrustLeft}
		for _, seen := range s.Members {
			now.Sees = append(now.Sees, seen.ID)
		}
		m.reporter.send(report{Status: &now})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// listen obeys and answers cues until stdin is closed.
func (m *member) listen(ctx context.Context, cues *bufio.Scanner) {
	defer m.open() // or a late write would wait for ever
	for cues.Scan() {
		c, err := parseCue(cues.Text())
		if err == nil {
			err = m.obey(ctx, c)
		}
		a := answer{Cue: c.verb}
		if err != nil {
			a.Err = m.venue.redact(err).Error()
		}
		m.reporter.send(report{Answer: &a})
	}
}

func (m *member) obey(ctx context.Context, c cue) error {
	ctx, cancel := context.WithTimeout(ctx, cueTimeout)
	defer cancel()
	if c.verb == cueOpen {
		m.open()
		return nil
	}
	if err := m.leads(c.term); err != nil {
		return err
	}
	switch c.verb {
	case cueResign:
		pause, err := time.ParseDuration(c.arg)
		if err != nil {
			return err
		}
		return m.elector.ResignLeader(ctx, pause)
	case cueTransfer:
		return m.elector.TransferLeader(ctx, c.arg)
	case cueHold:
		return m.hold(ctx, c.term)
	}
	return fmt.Errorf("unknown cue %q", c.verb)
}

// hold takes the gate, and keeps it if this member still leads then.
func (m *member) hold(ctx context.Context, term uint64) error {
	if err := m.gate.pass(ctx); err != nil {
		return err
	}
	m.held = true
	m.heldIn.Store(term)
	if err := m.leads(term); err != nil {
		m.open()
		return err
	}
	return nil
}

func (m *member) open() {
	if m.held {
		m.held = false
		m.gate.leave()
	}
}

func (m *member) leads(term uint64) error {
	if now, leading := m.elector.Term(); !leading || now != term {
		return fmt.Errorf("%s does not lead in term %d any more", m.member, term)
	}
	return nil
}

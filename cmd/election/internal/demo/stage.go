package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/arena"
)

// MemberCommand is the hidden subcommand under which the program runs itself as
// a member, by RunMember.
const MemberCommand = "demo-member"

// These lines of the stage's log tell what it had a leader do, with the term in which that member
// led. The verdict looks for them.
const (
	resigned    arena.What = "resigned"
	transferred arena.What = "transferred"
	unfreezable arena.What = "unfreezable" // this system cannot stop a process
)

// stage runs the members' processes. One goroutine owns it: the script's steps call until, which
// takes in what the members say while it waits. What they say moves the script on and is shown. It
// is no evidence.
type stage struct {
	dir       string
	venue     arena.Venue
	journal   *arena.Journal
	view      view
	unguarded bool          // the woken leader writes without the guard
	farewell  time.Duration // how long dismissed members may take to release and leave
	began     time.Time

	seats    []*seat
	messages chan message
	redraw   *time.Ticker

	step    string
	reign   sighted
	changed time.Time   // when reign last began or ended
	entries int         // committed, by what the members say
	answer  *arena.Line // to the last cue
	ending  bool        // the members were dismissed
}

// seat is one member's place, whatever process sits in it.
type seat struct {
	id      string
	actor   *arena.Actor // nil before the first one
	joined  bool
	frozen  bool
	gone    bool // the process has ended
	doomed  bool // it was killed, its end is no news
	status  status
	heard   time.Time // when the status came
	written int
	refused int
	ceased  uint64 // the last term whose writer ended
}

// sighted is the newest reign that the stage has heard of.
type sighted struct {
	seat    *seat
	term    uint64
	over    bool
	entries int
}

// message is what the stage hears from or about an actor: a report, or its end.
type message struct {
	from   *arena.Actor
	report report
	ended  bool
}

// enter starts the next process of a member. The process gets one end of a pipe as its standard
// output; the other end is read by relay until the process has closed it.
func (s *stage) enter(seat *seat) error {
	next := arena.Process{Member: seat.id, Number: 1}
	if seat.actor != nil {
		next.Number = seat.actor.Number + 1
	}
	stdout, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	// The process has its own copy. If this one stayed open, relay would never read the end.
	defer theirs.Close()
	settings := arena.Settings{Dir: s.dir, Process: next, Venue: s.venue, Unguarded: s.unguarded}
	a, err := arena.Start(settings, theirs, MemberCommand)
	if err != nil {
		return errors.Join(err, stdout.Close())
	}
	go s.relay(a, stdout)
	seat.actor, seat.joined, seat.gone, seat.doomed, seat.status = a, false, false, false, status{}
	s.tell("started %s, process %d", seat.id, a.PID())
	return nil
}

// relay passes on what a process says, and then its end, to messages, which must be received from
// until then.
func (s *stage) relay(a *arena.Actor, stdout *os.File) {
	defer stdout.Close()
	for reports := json.NewDecoder(stdout); ; {
		var r report
		if reports.Decode(&r) != nil {
			// The process has ended, or talks nonsense: its standard error says more.
			break
		}
		s.messages <- message{from: a, report: r}
	}
	// A process that talks on must not block on a full pipe, or it would not end.
	_, _ = io.Copy(io.Discard, stdout)
	<-a.Ended()
	s.messages <- message{from: a, ended: true}
}

// until waits for a condition, and meanwhile takes in what happens. If ctx ends first, the error
// says what was waited for, and the cause.
func (s *stage) until(ctx context.Context, wish string, fulfilled func() bool) error {
	for !fulfilled() {
		select {
		case m := <-s.messages:
			if err := s.hear(m); err != nil {
				return err
			}
		case <-s.redraw.C:
			s.view.draw(s.board())
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", wish, context.Cause(ctx))
		}
	}
	return nil
}

// hear takes in one message. The unexpected end of a process is an error.
func (s *stage) hear(m message) error {
	seat := s.seatOf(m.from.Member)
	switch r := m.report; {
	case m.ended:
		return s.hearEnd(seat, m)
	case r.Line != nil:
		s.hearLine(seat, *r.Line)
	case r.Status != nil:
		seat.status, seat.heard = *r.Status, time.Now()
	}
	return nil
}

// hearEnd takes in the end of a process. It is an error unless the stage has killed the process, or
// has dismissed it and it left without one. The error quotes the last words on its standard error.
func (s *stage) hearEnd(seat *seat, m message) error {
	seat.gone, seat.joined = true, false
	err := m.from.Err()
	switch {
	// The log of a killed process may end anywhere, and its status is that of a signal.
	case seat.doomed:
		return nil
	case err == nil && s.ending:
		return nil
	case err == nil:
		err = errors.New("it left the stage")
	}
	return fmt.Errorf("process %s ended unexpectedly: %w\n%s", m.from, err, m.from.LastWords())
}

// hearLine takes in a line of a member's log, as the member repeats it. A line may be late: a
// member that was frozen reports the end of its reign when another one leads already.
func (s *stage) hearLine(seat *seat, l arena.Line) {
	switch l.What {
	case arena.Joined:
		seat.joined = true
		s.tell("%s has joined", l.Member)
	case arena.Entered:
		// An earlier reign may be heard of late; it does not replace the newest one.
		if l.Term > s.reign.term {
			s.reign = sighted{seat: seat, term: l.Term}
			s.changed = time.Now()
		}
		s.tell("%s leads in term %d", l.Member, l.Term)
	case arena.Exited:
		s.end(l.Term)
		s.tell("%s leads in term %d no more", l.Member, l.Term)
	case arena.Committed:
		s.entries++
		seat.written++
		if l.Term == s.reign.term {
			s.reign.entries++
		}
	case arena.Refused:
		// Only the first refusal is told: a woken leader is refused many writes.
		if seat.refused++; seat.refused == 1 {
			s.tell("%s was refused a write in term %d", l.Member, l.Term)
		}
	case arena.Unknown:
		s.tell("%s cannot tell whether an entry was committed: %s", l.Member, l.Err)
	case arena.Ceased:
		seat.ceased = l.Term
	case arena.Asked:
		s.answer = &l
	case arena.Troubled:
		s.tell("%s reports %s", l.Member, l.Err)
	}
}

// end takes in that nobody leads in a term any more. A process that was killed or frozen does not
// say so itself.
func (s *stage) end(term uint64) {
	if s.reign.term == term && !s.reign.over {
		s.reign.over = true
		s.changed = time.Now()
	}
}

func (s *stage) seatOf(member string) *seat {
	for _, seat := range s.seats {
		if seat.id == member {
			return seat
		}
	}
	return nil
}

// ask gives the leader a cue and waits for the answer. It reports whether the
// cue was done: a leader that has just lost its lease declines.
func (s *stage) ask(ctx context.Context, seat *seat, c arena.Cue) (bool, error) {
	s.answer = nil
	if err := seat.actor.Say(c); err != nil {
		return false, err
	}
	wish := fmt.Sprintf("%s answers the cue to %s", seat.id, c.Verb)
	if err := s.until(ctx, wish, func() bool { return s.answer != nil }); err != nil {
		return false, err
	}
	if s.answer.Err != "" {
		s.tell("%s declines to %s: %s", seat.id, c.Verb, s.answer.Err)
		return false, nil
	}
	return true, nil
}

// did writes down what the stage has done to a leader: at a moment of arena.Now, or just now if at
// is 0.
func (s *stage) did(w arena.What, at int64, r sighted, to string) {
	l := arena.Line{What: w, At: at, Term: r.term, To: to}
	if r.seat != nil {
		l.Member, l.Number = r.seat.actor.Member, r.seat.actor.Number
	}
	s.journal.Write(l)
}

// tell shows the viewer a sentence.
func (s *stage) tell(format string, arguments ...any) {
	s.view.tell(time.Since(s.began), fmt.Sprintf(format, arguments...))
}

// curtain ends all processes: they are asked to leave, and those that do not are killed. It returns
// when the last one has ended. It has a time of its own, because the ctx of the run may have ended.
func (s *stage) curtain() error {
	s.ending = true
	for _, seat := range s.seats {
		if seat.actor == nil || seat.gone {
			continue
		}
		if seat.frozen {
			// A frozen process cannot notice that it is dismissed. If it cannot be thawed, it is
			// killed below.
			_ = seat.actor.Thaw()
		}
		seat.actor.Dismiss()
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), s.farewell, errors.New("they did not leave in time"))
	defer cancel()
	failure := s.await(ctx)
	for _, seat := range s.seats {
		if seat.actor != nil && !seat.gone {
			seat.doomed = true
			_ = seat.actor.Kill()
		}
	}
	return errors.Join(failure, s.await(context.Background()))
}

// await waits until no process is left. It goes on after an error, so that
// nobody's end stays unheard.
func (s *stage) await(ctx context.Context) error {
	var failure error
	for {
		err := s.until(ctx, "every process has ended", s.empty)
		failure = errors.Join(failure, err)
		if err == nil || ctx.Err() != nil {
			return failure
		}
	}
}

func (s *stage) empty() bool {
	for _, seat := range s.seats {
		if seat.actor != nil && !seat.gone {
			return false
		}
	}
	return true
}

// board is what the viewer sees.
func (s *stage) board() board {
	b := board{elapsed: time.Since(s.began), step: s.step, entries: s.entries, term: s.reign.term}
	if s.reign.term > 0 {
		b.steady = time.Since(s.changed)
	}
	for _, seat := range s.seats {
		r := row{member: seat.id, state: seat.state(), written: seat.written, refused: seat.refused}
		if s.reign.seat == seat && !s.reign.over {
			r.leads, b.leader = true, seat.id
		}
		if seat.status.State == election.StateLeader && !seat.gone {
			r.term = seat.status.Term
			// Between two reports the stage counts the trust down itself.
			r.trust = max(0, seat.status.TrustLeft-time.Since(seat.heard))
		}
		if !seat.gone && !seat.frozen {
			r.sees = strings.Join(seat.status.Sees, " ")
		}
		b.rows = append(b.rows, r)
	}
	return b
}

func (s *seat) state() string {
	switch {
	case s.actor == nil:
		return ""
	case s.gone && s.doomed:
		return "killed"
	case s.gone:
		return "left"
	case s.frozen:
		return "frozen"
	case !s.joined:
		return "waiting"
	}
	return string(s.status.State)
}

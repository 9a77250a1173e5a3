package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sqlelect/election"
)

// stage runs the members' processes. One goroutine owns it: the script's steps
// call until, which takes in what the members say while it waits.
type stage struct {
	dir       string
	venue     venue
	journal   *journal
	view      view
	arguments []string      // for every member's process
	farewell  time.Duration // how long dismissed members may take to release and leave
	began     time.Time

	seats    []*seat
	messages chan message
	redraw   *time.Ticker

	step    string
	reign   sighted
	changed time.Time // when reign last began or ended
	entries int       // committed, by what the members say
	answer  *answer   // to the last cue
	ending  bool      // the members were dismissed
}

// seat is one member's place, whatever process sits in it.
type seat struct {
	id       string
	actor    *actor // nil before the first one
	joined   bool
	frozen   bool
	gone     bool // the process has ended
	doomed   bool // it was killed, its end is no news
	status   status
	heard    time.Time // when the status came
	written  int
	refused  int
	returned uint64 // the last term whose callback returned
}

// sighted is the newest reign that the stage has heard of.
type sighted struct {
	seat    *seat
	term    uint64
	over    bool
	entries int
}

// enter starts the next process of a member.
func (s *stage) enter(seat *seat) error {
	next := process{seat.id, 1}
	if seat.actor != nil {
		next.run = seat.actor.run + 1
	}
	a, err := startActor(s.dir, s.venue, next, s.messages, s.arguments...)
	if err != nil {
		return err
	}
	seat.actor, seat.joined, seat.gone, seat.doomed, seat.status = a, false, false, false, status{}
	s.tell("started %s, process %d", seat.id, a.command.Process.Pid)
	return nil
}

// until waits for a condition, and meanwhile takes in what happens.
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
	seat := s.seatOf(m.from.member)
	switch r := m.report; {
	case m.ended:
		return s.hearEnd(seat, m)
	case r.Line != nil:
		s.hearLine(seat, *r.Line)
	case r.Status != nil:
		seat.status, seat.heard = *r.Status, time.Now()
	case r.Answer != nil:
		s.answer = r.Answer
	}
	return nil
}

func (s *stage) hearEnd(seat *seat, m message) error {
	m.from.stderr.Close()
	seat.gone, seat.joined = true, false
	switch {
	case seat.doomed:
		return nil
	case m.err == nil && s.ending:
		return nil
	case m.err == nil:
		m.err = errors.New("it left the stage")
	}
	return fmt.Errorf("process %s ended unexpectedly: %w\n%s", m.from, m.err, m.from.lastWords())
}

func (s *stage) hearLine(seat *seat, l line) {
	switch l.What {
	case joined:
		seat.joined = true
		s.tell("%s has joined", l.Member)
	case entered:
		if l.Term > s.reign.term {
			s.reign = sighted{seat: seat, term: l.Term}
			s.changed = time.Now()
		}
		s.tell("%s leads in term %d", l.Member, l.Term)
	case exited:
		seat.returned = l.Term
		s.end(l.Term)
		s.tell("%s leads in term %d no more", l.Member, l.Term)
	case committed:
		s.entries++
		seat.written++
		if l.Term == s.reign.term {
			s.reign.entries++
		}
	case refused:
		if seat.refused++; seat.refused == 1 {
			s.tell("%s was refused a write in term %d", l.Member, l.Term)
		}
	case maybe:
		s.tell("%s cannot tell whether an entry was committed: %s", l.Member, l.Err)
	case troubled:
		s.tell("%s reports %s", l.Member, l.Err)
	}
}

// end takes in that nobody leads in a term any more.
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
func (s *stage) ask(ctx context.Context, seat *seat, c cue) (bool, error) {
	s.answer = nil
	if err := seat.actor.say(c); err != nil {
		return false, err
	}
	wish := fmt.Sprintf("%s answers the cue to %s", seat.id, c.verb)
	if err := s.until(ctx, wish, func() bool { return s.answer != nil }); err != nil {
		return false, err
	}
	if s.answer.Err != "" {
		s.tell("%s declines to %s: %s", seat.id, c.verb, s.answer.Err)
		return false, nil
	}
	return true, nil
}

// did writes down what the stage has done to a leader.
func (s *stage) did(w what, at time.Time, r sighted, to string) error {
	l := line{What: w, At: at.UnixNano(), Term: r.term, To: to}
	if r.seat != nil {
		l.Member, l.Run = r.seat.actor.member, r.seat.actor.run
	}
	return s.journal.write(l)
}

// tell shows the viewer a sentence.
func (s *stage) tell(format string, arguments ...any) {
	s.view.tell(time.Since(s.began), fmt.Sprintf(format, arguments...))
}

// curtain ends all processes: they are asked to leave, and those that do not are
// killed. It returns when the last one has ended.
func (s *stage) curtain() error {
	s.ending = true
	for _, seat := range s.seats {
		if seat.actor == nil || seat.gone {
			continue
		}
		if seat.frozen {
			_ = seat.actor.thaw()
		}
		seat.actor.dismiss()
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), s.farewell, errors.New("they did not leave in time"))
	defer cancel()
	failure := s.await(ctx)
	for _, seat := range s.seats {
		if seat.actor != nil && !seat.gone {
			seat.doomed = true
			_, _ = seat.actor.kill()
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

package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sqlelect/election/internal/arena"
)

const (
	// settling lets the viewer see a reign.
	settling = 1500 * time.Millisecond
	// enough is how many entries of a term let the verdict tell an entry that comes too late.
	enough = 5
)

// resignPause keeps a leader that resigned from campaigning for longer than the others can need to
// elect: it must not be its own successor.
var resignPause = 2 * lease.Duration

// script is what the stage does, step by step. Each step begins with a leader that has led for a
// while, and ends when somebody leads.
func (s *stage) script() []scene {
	database := "one database"
	if own(s.venue) {
		database = "one SQLite file"
	}
	return []scene{
		{"three processes elect a leader over " + database, s.begin},
		{"the leader resigns", s.resign},
		{"the leader hands over to a member it names", s.transfer},
		{"the leader is killed (SIGKILL), and started again", s.kill},
		{"the leader is frozen (SIGSTOP) past its lease, and woken", s.freeze},
		{"all three go on", s.goOn},
	}
}

type scene struct {
	title string
	play  func(context.Context) error
}

// play runs the script up to the first error: a step that does not come to its end leaves no state
// in which the next one could begin.
func (s *stage) play(ctx context.Context) error {
	scenes := s.script()
	for i, scene := range scenes {
		s.step = fmt.Sprintf("%d/%d  %s", i+1, len(scenes), scene.title)
		s.view.scene(s.step)
		if err := scene.play(ctx); err != nil {
			return fmt.Errorf("step %q: %w", scene.title, err)
		}
	}
	s.step = ""
	return nil
}

// begin starts the members. On a database of the user's it first says which tables are new there.
func (s *stage) begin(ctx context.Context) error {
	if !own(s.venue) {
		s.tell("created tables %s… in %s", s.venue.Prefix, s.venue)
	}
	for _, seat := range s.seats {
		if err := s.enter(seat); err != nil {
			return err
		}
	}
	return s.until(ctx, "all members have joined", func() bool {
		return !slices.ContainsFunc(s.seats, func(seat *seat) bool { return !seat.joined })
	})
}

// leader waits until somebody has led for a while: long enough for the viewer to see it, and for
// the verdict to have entries of the term.
func (s *stage) leader(ctx context.Context) (sighted, error) {
	err := s.until(ctx, "a leader has written some entries", func() bool {
		return !s.reign.over && s.reign.entries >= enough && time.Since(s.changed) >= settling
	})
	return s.reign, err
}

// succession waits until somebody leads in a later term than r's.
func (s *stage) succession(ctx context.Context, r sighted) error {
	return s.until(ctx, "somebody leads in a later term", func() bool {
		return s.reign.term > r.term && !s.reign.over
	})
}

// cued has the leader do what c says for the term that it leads in, and writes it down. A leader
// that loses its leadership just then declines, and the next leader is asked.
func (s *stage) cued(ctx context.Context, w arena.What, choose func(sighted) (arena.Cue, error)) error {
	for {
		r, err := s.leader(ctx)
		if err != nil {
			return err
		}
		c, err := choose(r)
		if err != nil {
			return err
		}
		c.Term = r.term
		// The moment is that of the cue, and not of the answer: the leader acts in between.
		asked := arena.Now()
		done, err := s.ask(ctx, r.seat, c)
		if err != nil {
			return err
		}
		if !done {
			if err := s.linger(ctx, r); err != nil {
				return err
			}
			continue
		}
		s.did(w, asked, r, c.Arg)
		return s.succession(ctx, r)
	}
}

func (s *stage) resign(ctx context.Context) error {
	return s.cued(ctx, resigned, func(r sighted) (arena.Cue, error) {
		s.tell("asking %s to resign", r.seat.id)
		return arena.Cue{Verb: arena.Resign, Arg: resignPause.String()}, nil
	})
}

func (s *stage) transfer(ctx context.Context) error {
	return s.cued(ctx, transferred, func(r sighted) (arena.Cue, error) {
		heir, err := s.bystander(r)
		if err != nil {
			return arena.Cue{}, err
		}
		s.tell("asking %s to hand over to %s", r.seat.id, heir.id)
		return arena.Cue{Verb: arena.Transfer, Arg: heir.id}, nil
	})
}

// bystander is the member beside the leader that has written least: over a run as many members as
// possible get to lead.
func (s *stage) bystander(r sighted) (*seat, error) {
	var least *seat
	for _, seat := range s.seats {
		if seat != r.seat && seat.joined && (least == nil || seat.written < least.written) {
			least = seat
		}
	}
	if least == nil {
		return nil, fmt.Errorf("nobody is there beside the leader %s", r.seat.id)
	}
	return least, nil
}

// linger waits until the leader of r has led for a while longer, or leads no more. A cue that was
// declined is not given again at once.
func (s *stage) linger(ctx context.Context, r sighted) error {
	since := time.Now()
	return s.until(ctx, "the leader has written some more entries", func() bool {
		more := s.reign.entries >= r.entries+enough && time.Since(since) >= settling
		return more || s.reign.term != r.term || s.reign.over
	})
}

// kill asks nobody: whoever leads is killed in the midst of its work. Its transaction may have been
// committed without a line in its log. The member is started again only when another one leads: the
// step shows a take-over, and not a restart.
func (s *stage) kill(ctx context.Context) error {
	r, err := s.leader(ctx)
	if err != nil {
		return err
	}
	// doomed is set before the kill, because the end of the process may be heard at once.
	r.seat.doomed = true
	if err := r.seat.actor.Kill(); err != nil {
		return err
	}
	// Kill has returned when the process has ended. From this moment on no line can come from it.
	s.did(arena.Killed, 0, r, "")
	s.tell("killed %s in term %d", r.seat.id, r.term)
	if err := s.until(ctx, "the killed process has ended", func() bool { return r.seat.gone }); err != nil {
		return err
	}
	s.end(r.term)
	if err := s.succession(ctx, r); err != nil {
		return err
	}
	if err := s.enter(r.seat); err != nil {
		return err
	}
	return s.until(ctx, "the killed member has joined again", func() bool { return r.seat.joined })
}

// freeze stops a leader until somebody else leads, and wakes it. It is stopped at the gate (see
// gate), so that it holds no lock that would keep the others from electing. Where no process can be
// stopped, the step is left out, and the stage's log says so to the verdict.
func (s *stage) freeze(ctx context.Context) error {
	if !arena.CanFreeze {
		s.tell("skipped: this system cannot stop a process")
		s.did(unfreezable, 0, sighted{}, "")
		return nil
	}
	r, err := s.leaderAtGate(ctx)
	if err != nil {
		return err
	}
	if err := r.seat.actor.Freeze(); err != nil {
		return err
	}
	r.seat.frozen = true
	s.did(arena.Frozen, 0, r, "")
	s.tell("froze %s in term %d", r.seat.id, r.term)
	s.end(r.term)
	if err := s.succession(ctx, r); err != nil {
		return err
	}
	// The next leader writes first. So a late write that is committed stands behind entries of a
	// later term, and the verdict sees it.
	if _, err := s.leader(ctx); err != nil {
		return err
	}
	return s.wake(ctx, r)
}

// leaderAtGate returns a leader that holds its gate. A leader that declines has just lost its term:
// then the next one is asked.
func (s *stage) leaderAtGate(ctx context.Context) (sighted, error) {
	for {
		r, err := s.leader(ctx)
		if err != nil {
			return r, err
		}
		done, err := s.ask(ctx, r.seat, arena.Cue{Verb: cueHold, Term: r.term})
		if err != nil || done {
			return r, err
		}
		if err := s.linger(ctx, r); err != nil {
			return r, err
		}
	}
}

// wake lets a frozen leader go on, and waits until its writer has ended: it writes late a few
// times, and then understands that it leads no more. That it is woken is written down before it is:
// no late write may come before this moment.
func (s *stage) wake(ctx context.Context, r sighted) error {
	before := r.seat.refused
	s.did(arena.Thawed, 0, r, "")
	if err := r.seat.actor.Thaw(); err != nil {
		return err
	}
	r.seat.frozen = false
	s.tell("woke %s, which still believes in term %d", r.seat.id, r.term)
	// The cue names no term: the member is not to decline because its own is over.
	if _, err := s.ask(ctx, r.seat, arena.Cue{Verb: cueOpen}); err != nil {
		return err
	}
	late := func() bool { return r.seat.ceased >= r.term }
	if err := s.until(ctx, "the woken leader has stopped writing", late); err != nil {
		return err
	}
	s.tell("%s was refused %d late writes", r.seat.id, r.seat.refused-before)
	return nil
}

// goOn shows that everybody is well: one leads, and the others know it. The member that was frozen
// is among them: it goes on as a follower.
func (s *stage) goOn(ctx context.Context) error {
	agreed := func() bool {
		return !s.reign.over && !slices.ContainsFunc(s.seats, func(seat *seat) bool {
			return !seat.joined || seat.status.Term != s.reign.term
		})
	}
	if err := s.until(ctx, "all members know the leader", agreed); err != nil {
		return err
	}
	return s.linger(ctx, s.reign)
}

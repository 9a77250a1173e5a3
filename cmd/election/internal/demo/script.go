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
	// enough entries of a term let the verdict tell one that comes too late.
	enough = 5
)

// resignPause keeps a leader that resigned from campaigning for longer than the
// others can need.
var resignPause = 2 * lease.Duration

// script is what the stage does, step by step.
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

// play runs the script.
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

// leader waits until somebody has led for a while.
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

// cued has the leader do what c says for the term it leads in, and writes it
// down. A leader that loses its leadership just then is followed by another try.
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

// bystander is the member beside the leader that has led least.
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

// linger waits until the leader has led for a while longer, or no more.
func (s *stage) linger(ctx context.Context, r sighted) error {
	since := time.Now()
	return s.until(ctx, "the leader has written some more entries", func() bool {
		more := s.reign.entries >= r.entries+enough && time.Since(since) >= settling
		return more || s.reign.term != r.term || s.reign.over
	})
}

// kill asks nobody: whoever leads is killed in the midst of its work.
func (s *stage) kill(ctx context.Context) error {
	r, err := s.leader(ctx)
	if err != nil {
		return err
	}
	r.seat.doomed = true
	if err := r.seat.actor.Kill(); err != nil {
		return err
	}
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

// freeze stops a leader until somebody else leads, and wakes it. It is stopped
// at the gate, because a process that is stopped within a write to SQLite holds
// the lock of the whole file, and nobody could be elected. (On a server nobody
// could before the guard timeout.)
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
	if _, err := s.leader(ctx); err != nil {
		return err
	}
	return s.wake(ctx, r)
}

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

// wake lets a frozen leader go on, and waits until it has understood that it
// leads no more.
func (s *stage) wake(ctx context.Context, r sighted) error {
	before := r.seat.refused
	s.did(arena.Thawed, 0, r, "")
	if err := r.seat.actor.Thaw(); err != nil {
		return err
	}
	r.seat.frozen = false
	s.tell("woke %s, which still believes in term %d", r.seat.id, r.term)
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

// goOn shows that everybody is well: one leads, and the others know it.
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

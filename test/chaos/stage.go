//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sqlelect/election/internal/arena"
)

const (
	// patience is for how long the election may stand still after all faults are
	// healed: what a stopped client or a dead connection left on a server is bounded
	// by three times the guard timeout, and then a lease has to run out.
	patience = 3*guardTimeout + 2*leaseDuration + 10*time.Second
	// endPatience is how long a process may take to end on SIGTERM: for its attempts,
	// and because it may be behind a broken network.
	endPatience = 30 * time.Second
	// calm lies between two rounds of faults, at least.
	calm = 400 * time.Millisecond
	// healPatience bounds the start of a server.
	healPatience = time.Minute
)

// stage runs the members of one election over one database, and disturbs them.
type stage struct {
	dir       string
	venue     *venue
	ledger    *arena.Ledger
	journal   *arena.Journal
	plan      *plan
	unguarded bool
	tell      func(format string, arguments ...any)

	seats  []*seat
	struck int
}

// seat is one member's place, whatever process sits in it.
type seat struct {
	id      string
	orm     bool     // works through gorm
	network *network // nil before a file
	actor   *arena.Actor
}

func (s *stage) note(l arena.Line) { s.journal.Write(l) }

// noteOf writes down what happened to a process.
func (s *stage) noteOf(at *seat, w arena.What, err error) {
	l := arena.Line{What: w, Member: at.id, Number: at.actor.Number}
	if err != nil {
		l.Err = err.Error()
	}
	s.note(l)
}

// enter starts the next process of a member. Its standard output goes nowhere: no
// reader can slow it down.
func (s *stage) enter(at *seat) error {
	next := arena.Process{Member: at.id, Number: 1}
	if at.actor != nil {
		next.Number = at.actor.Number + 1
	}
	a, err := arena.Start(arena.Settings{
		Dir: s.dir, Process: next, Venue: s.venue.seen(at.network), ORM: at.orm, Unguarded: s.unguarded,
	}, nil, memberCommand)
	if err != nil {
		return err
	}
	at.actor = a
	s.noteOf(at, started, nil)
	return nil
}

// perform lets the members elect for a while, disturbed.
func (s *stage) perform(ctx context.Context, duration time.Duration) error {
	s.note(arena.Line{What: clocks, Wall: time.Now().UnixNano()})
	for _, at := range s.seats {
		if err := s.enter(at); err != nil {
			return err
		}
	}
	end := time.Now().Add(duration)
	if err := s.goOn(ctx); err != nil {
		return err
	}
	for time.Now().Before(end) && ctx.Err() == nil {
		if err := s.round(ctx, s.plan.round()); err != nil {
			return err
		}
	}
	s.note(arena.Line{What: clocks, Wall: time.Now().UnixNano()})
	return context.Cause(ctx)
}

// wound is a fault that has struck.
type wound struct {
	fault
	at   *seat
	heal func(context.Context) error
}

// name says what it is, and whose: nobody's in particular, if it is an outage.
func (w wound) name() string { return strings.TrimSpace(string(w.kind) + " " + w.member()) }

func (w wound) member() string {
	if w.outage {
		return ""
	}
	return w.at.id
}

// round strikes, waits, heals, and waits until the election goes on.
func (s *stage) round(ctx context.Context, faults []fault) error {
	wounds, err := s.strikeAll(ctx, faults)
	if err != nil {
		return err
	}
	var names []string
	var hold time.Duration
	for _, w := range wounds {
		names = append(names, w.name())
		hold = max(hold, w.hold)
	}
	arena.Pause(ctx, hold)
	if err := s.healAll(ctx, wounds); err != nil {
		return err
	}
	healedAt := time.Now()
	if err := s.goOn(ctx); err != nil {
		return err
	}
	s.tell("%3d faults: %s, for %.1f s; goes on %.1f s after", s.struck, strings.Join(names, " + "),
		hold.Seconds(), time.Since(healedAt).Seconds())
	arena.Pause(ctx, calm+time.Duration(faults[0].strength*float64(time.Second)))
	return nil
}

// strikeAll begins faults, one on each member at most. Processes are stopped last: one that is stopped inside a
// write keeps SQLite's lock, for which a fault of the file would wait.
func (s *stage) strikeAll(ctx context.Context, faults []fault) (wounds []wound, err error) {
	hit := map[*seat]bool{}
	faults = slices.Clone(faults)
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(stopped(a), stopped(b)) })
	for _, f := range faults {
		w := wound{fault: f, at: s.aim(ctx, f)}
		if !f.outage {
			if hit[w.at] {
				continue
			}
			hit[w.at] = true
		}
		s.struck++
		s.note(arena.Line{What: struck, Fault: string(f.kind), Member: w.member()})
		if w.heal, err = s.strike(ctx, f, w.at); err != nil {
			return nil, fmt.Errorf("%s: %w", w.name(), err)
		}
		wounds = append(wounds, w)
	}
	return wounds, nil
}

func stopped(f fault) int {
	if f.kind == sigstop {
		return 1
	}
	return 0
}

// healAll ends faults, the last one first, also when ctx has ended.
func (s *stage) healAll(ctx context.Context, wounds []wound) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healPatience)
	defer cancel()
	for _, w := range slices.Backward(wounds) {
		if err := w.heal(ctx); err != nil {
			return fmt.Errorf("end of %s: %w", w.name(), err)
		}
		s.note(arena.Line{What: healed, Fault: string(w.kind), Member: w.member()})
	}
	return nil
}

// aim finds whom a fault hits.
func (s *stage) aim(ctx context.Context, f fault) *seat {
	at := s.leader(ctx)
	if at == nil || !f.atLeader {
		return s.someoneElse(f, at)
	}
	return at
}

// leader returns the seat that the leader row names, or nil.
func (s *stage) leader(ctx context.Context) *seat {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	id, err := leader(ctx, s.ledger)
	for _, at := range s.seats {
		if err == nil && at.id == id {
			return at
		}
	}
	return nil
}

func (s *stage) someoneElse(f fault, not *seat) *seat {
	at := s.seats[f.other%len(s.seats)]
	if at == not {
		at = s.seats[(f.other+1)%len(s.seats)]
	}
	return at
}

// goOn waits until an entry is committed that was not there before, and sees after
// those who have deserted.
func (s *stage) goOn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	before := int64(-1)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if err := s.lookForDeserters(); err != nil {
			return err
		}
		seq, err := s.ledger.Last(ctx)
		switch {
		case err != nil:
		case before < 0:
			before = seq
		case seq > before:
			s.note(arena.Line{What: went})
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				s.note(arena.Line{What: stuck, Err: fmt.Sprintf("no entry within %v", patience)})
				s.tell("stuck: no entry within %v", patience)
				return nil
			}
			return context.Cause(ctx)
		}
	}
}

// lookForDeserters writes down whose process has ended, and starts another.
func (s *stage) lookForDeserters() error {
	for _, at := range s.seats {
		if !s.hasDeserted(at) {
			continue
		}
		s.tell("process %s has ended by itself: %v", at.actor, at.actor.Err())
		if err := s.enter(at); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) hasDeserted(at *seat) bool {
	select {
	case <-at.actor.Ended():
		s.noteOf(at, deserted, fmt.Errorf("it ended by itself: %w", at.actor.Err()))
		return true
	default:
		return false
	}
}

// curtain ends all processes, at once: gently, if the run came to its end.
func (s *stage) curtain(ctx context.Context, gently bool) {
	var ending sync.WaitGroup
	for _, at := range s.seats {
		if at.actor == nil {
			continue
		}
		ending.Go(func() {
			switch {
			case !gently:
				_ = at.actor.Kill()
			case !s.hasDeserted(at):
				s.dismiss(ctx, at)
			}
		})
	}
	ending.Wait()
	for _, at := range s.seats {
		if at.network != nil {
			at.network.close()
		}
	}
}

// newStage sets everything up but the members.
func newStage(ctx context.Context, dir, engine string, o options, tell func(string, ...any)) (s *stage, err error) {
	s = &stage{dir: dir, unguarded: o.unguarded, tell: tell}
	if s.journal, err = arena.NewJournal(filepath.Join(dir, arena.StageLog), nil); err != nil {
		return nil, err
	}
	if s.venue, err = openVenue(ctx, engine, dir); err != nil {
		return nil, errors.Join(err, s.journal.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.ledger, err = arena.Open(ctx, s.venue.Venue); err != nil {
		return nil, err
	}
	if err := s.ledger.Create(ctx); err != nil {
		return nil, err
	}
	if err := createChanges(ctx, s.ledger); err != nil {
		return nil, err
	}
	s.plan = newPlan(o.seed, s.venue)
	for i := range o.members {
		at := &seat{id: string(rune('a' + i)), orm: i%3 == 2}
		if s.venue.server != nil {
			if at.network, err = newNetwork(at.id, s.venue.server.Address); err != nil {
				return nil, err
			}
		}
		s.seats = append(s.seats, at)
	}
	return s, nil
}

func (s *stage) close() (err error) {
	if s.ledger != nil {
		err = s.ledger.Close()
	}
	return errors.Join(err, s.journal.Close(), s.venue.close())
}

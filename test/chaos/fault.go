//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/sqlelect/election/internal/arena"
)

// strike begins a fault. What it returns ends it.
func (s *stage) strike(ctx context.Context, f fault, at *seat) (heal func(context.Context) error, err error) {
	switch f.kind {
	case sigkill, sigstop, sigterm, resign, transfer:
		return s.strikeProcess(ctx, f, at)
	case restart, crash:
		return s.strikeServer(ctx, f)
	case fullFile, fullDisk, locked:
		return s.strikeFile(ctx, f)
	}
	return strikeNetwork(f, at.network)
}

func (s *stage) strikeProcess(ctx context.Context, f fault, at *seat) (heal func(context.Context) error, err error) {
	again := func(context.Context) error { return s.enter(at) }
	switch f.kind {
	case sigkill:
		s.kill(at)
		return again, nil
	case sigstop:
		if err := at.actor.Freeze(); err != nil {
			return nil, err
		}
		s.noteOf(at, arena.Frozen, nil)
		return func(context.Context) error {
			s.noteOf(at, arena.Thawed, nil)
			return at.actor.Thaw()
		}, nil
	case sigterm:
		s.dismiss(ctx, at)
		return again, nil
	case resign:
		err = at.actor.Say(arena.Cue{Verb: arena.Resign, Arg: (leaseDuration * time.Duration(1+f.other%2)).String()})
	case transfer:
		err = at.actor.Say(arena.Cue{Verb: arena.Transfer, Arg: s.someoneElse(f, at).id})
	}
	return func(context.Context) error { return nil }, err
}

func (s *stage) strikeServer(ctx context.Context, f fault) (heal func(context.Context) error, err error) {
	server := s.venue.server
	if f.kind == crash {
		err = server.Kill(ctx)
	} else {
		err = server.Stop(ctx)
	}
	return server.Start, err
}

func (s *stage) strikeFile(ctx context.Context, f fault) (heal func(context.Context) error, err error) {
	var free func() error
	switch f.kind {
	case fullFile:
		return fillPages(ctx, s.ledger.DB)
	case fullDisk:
		free, err = s.venue.file.volume.fill(ctx, s.ledger.DB)
	case locked:
		free, err = lock(ctx, s.ledger.DB)
	}
	return func(context.Context) error { return free() }, err
}

func strikeNetwork(f fault, n *network) (heal func(context.Context) error, err error) {
	var remove func() error
	direction := upstream
	if f.odd {
		direction = downstream
	}
	switch f.kind {
	case cut:
		remove, err = n.poison(bothWays("reset_peer", nil)...)
	case refuse:
		remove = n.refuse()
	case blackHole:
		remove, err = n.poison(bothWays("timeout", nil)...)
	case half:
		remove, err = n.poison(oneWay(direction, "timeout", nil))
	case latency:
		ms := 50 + int64(450*f.strength)
		remove, err = n.poison(oneWay(direction, "latency", map[string]int64{"latency": ms, "jitter": ms / 3}))
	case lateness:
		ms := leaseDuration.Milliseconds() + int64(2000*f.strength)
		remove, err = n.poison(oneWay(direction, "latency", map[string]int64{"latency": ms}))
	case trickle:
		remove, err = n.poison(bothWays("bandwidth", map[string]int64{"rate": 1})...)
	default:
		err = fmt.Errorf("no network has the fault %q", f.kind)
	}
	return func(context.Context) error { return remove() }, err
}

// kill ends a process at once. It may have ended already.
func (s *stage) kill(at *seat) {
	_ = at.actor.Kill()
	s.noteOf(at, arena.Killed, nil)
}

// dismiss asks a process to end with SIGTERM, and kills it if it does not.
func (s *stage) dismiss(ctx context.Context, at *seat) {
	ctx, cancel := context.WithTimeoutCause(ctx, endPatience, errors.New("too late"))
	defer cancel()
	err := at.actor.Signal(syscall.SIGTERM)
	select {
	case <-at.actor.Ended():
		err = errors.Join(err, at.actor.Err())
	case <-ctx.Done():
		s.kill(at)
		err = fmt.Errorf("it did not end on SIGTERM: %w", context.Cause(ctx))
	}
	if err != nil && at.actor.HasBegun() { // else it was ended before it could heed the signal
		s.noteOf(at, deserted, err)
	}
}

package demo

import (
	"context"

	"github.com/sqlelect/election"
)

// gate is what every database call of a member must pass, one at a time. SQLite
// has one writer per file, and a process that is stopped within a write holds the
// file's lock until it goes on: nobody else could be elected meanwhile. On a
// server its lock ends with the guard timeout, which is longer than a lease. So
// a member is stopped while it holds the gate, when no call is under way.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// pass waits for the gate, in the order of arrival, or for the end of ctx.
func (g gate) pass(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave lets the next one pass.
func (g gate) leave() { <-g }

// gatedStorage sends an elector's calls through a gate. It hides whatever else
// the storage can do, which an elector has to live with.
type gatedStorage struct {
	storage election.Storage
	gate    gate
}

func (s gatedStorage) Get(ctx context.Context) (*election.Record, error) {
	if err := s.gate.pass(ctx); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	return s.storage.Get(ctx)
}

func (s gatedStorage) Update(ctx context.Context, record *election.Record, isLeaderChanged bool) error {
	if err := s.gate.pass(ctx); err != nil {
		return err
	}
	defer s.gate.leave()
	return s.storage.Update(ctx, record, isLeaderChanged)
}

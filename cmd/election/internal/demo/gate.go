package demo

import (
	"context"

	"github.com/sqlelect/election"
)

// gate is what every database call of a member must pass, one at a time. A member is frozen while
// it holds the gate, because no call is under way then. A process that is stopped within a write
// would hold up the others:
//
//   - on SQLite it holds the lock of the whole file until it goes on, and nobody else can be
//     elected;
//   - on a server its lock ends with the guard timeout, which is longer than a lease.
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

// gatedStorage sends an elector's calls through a gate. It hides the storage's other abilities, as
// a wrapper may: members of the demo renew in the record and poll.
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

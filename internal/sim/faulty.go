package sim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sqlelect/election"
)

// foreignBackend is a Storage that somebody else has written. It remembers what
// it has read, to have an old record to show.
type foreignBackend struct {
	election.Storage
	judge *judge // nil outside of a world

	mu   sync.Mutex
	seen []seenRecord // the latest last
}

const maxSeen = 64

// seenRecord was first seen then.
type seenRecord struct {
	*election.Record
	since time.Time
}

func (b *foreignBackend) read(ctx context.Context, age int, lag time.Duration) (*election.Record, error) {
	record, err := b.Get(ctx)
	if err != nil || record == nil {
		return record, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.seen); n == 0 || b.seen[n-1].Version != record.Version {
		if n == 2*maxSeen {
			b.seen = append(b.seen[:0], b.seen[maxSeen:]...)
		}
		b.seen = append(b.seen, seenRecord{record.Clone(), time.Now()})
	}
	age = min(age, len(b.seen)-1)
	for lag > 0 && age > 0 && time.Since(b.seen[len(b.seen)-age].since) > lag {
		age--
	}
	if age > 0 {
		return b.seen[len(b.seen)-1-age].Clone(), nil
	}
	return record, nil
}

func (b *foreignBackend) update(ctx context.Context, p *process, record *election.Record, isLeaderChanged bool) error {
	err := b.Update(ctx, record, isLeaderChanged)
	if err == nil && isLeaderChanged && record.LeaderID != "" {
		b.judge.acquired(p, record.Term)
	}
	return err
}

// faulty is a Storage with faults.
type faulty struct {
	wire
	backend *foreignBackend
}

// NewFaulty returns storage with faults, drawn from seed.
func NewFaulty(storage election.Storage, faults Faults, seed uint64) election.Storage {
	return &faulty{
		wire:    wire{fates: fates{dice: rand.New(rand.NewPCG(seed, 0)), faults: faults}},
		backend: &foreignBackend{Storage: storage},
	}
}

func (f *faulty) Get(ctx context.Context) (*election.Record, error) { return f.get(ctx, f.backend) }

func (f *faulty) Update(ctx context.Context, record *election.Record, isLeaderChanged bool) error {
	return f.update(ctx, record, func(ctx context.Context, sent *election.Record) error {
		return f.backend.Update(ctx, sent, isLeaderChanged)
	})
}

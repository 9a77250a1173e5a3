package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sqlelect/election"
)

// foreignBackend is a Storage that somebody else has written. It remembers what it has read, to
// have an old record to show. Its past is therefore what this process has seen, and not all that
// was stored.
type foreignBackend struct {
	election.Storage
	judge *judge // nil outside of a world

	mu   sync.Mutex
	seen []seenRecord // the latest last
}

// maxSeen is how many records are remembered at least; up to twice as many are.
const maxSeen = 64

// seenRecord was first seen then. The one before it was replaced at that moment at the latest.
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

// members ignores age and lag: what it returns is never old.
func (b *foreignBackend) members(ctx context.Context, _ int, _ time.Duration, ids []string) ([]*election.Member, error) {
	if apart, ok := b.Storage.(election.MemberStorage); ok {
		return apart.GetMembers(ctx, ids...)
	}
	return nil, errors.ErrUnsupported
}

// update tells the judge of an acquisition only when its reply is there, because the commits of
// this Storage cannot be seen. The judge does not learn their order. Of G1 it checks here that no
// term has two callbacks, and that no process acquires a term of which it has read.
func (b *foreignBackend) update(ctx context.Context, p *process, w Write) error {
	err := b.write(ctx, w)
	if err == nil && w.IsLeaderChanged && w.Record.LeaderID != "" {
		b.judge.acquired(p, w.Record.Term)
	}
	return err
}

func (b *foreignBackend) write(ctx context.Context, w Write) error {
	apart, ok := b.Storage.(election.MemberStorage)
	switch {
	case w.Before == nil && w.After == nil:
		return b.Update(ctx, w.Record, w.IsLeaderChanged)
	case !ok:
		return errors.ErrUnsupported
	case w.Record == nil:
		return apart.UpdateMember(ctx, w.Before, w.After)
	}
	return apart.UpdateWithMember(ctx, w.Record, w.IsLeaderChanged, w.Before, w.After)
}

// faulty is a Storage with faults, outside of a world.
type faulty struct {
	wire
	backend *foreignBackend
}

// NewFaulty returns storage with faults, drawn from seed. It has the abilities that storage has; a
// Watcher passes without faults.
func NewFaulty(storage election.Storage, faults Faults, seed uint64) election.Storage {
	f := &faulty{
		wire:    wire{fates: fates{dice: rand.New(rand.NewPCG(seed, 0)), faults: faults}},
		backend: &foreignBackend{Storage: storage},
	}
	_, apart := storage.(election.MemberStorage)
	watcher, watches := storage.(election.Watcher)
	switch {
	case apart && watches:
		return struct {
			apartFaulty
			election.Watcher
		}{apartFaulty{f}, watcher}
	case apart:
		return apartFaulty{f}
	case watches:
		return struct {
			*faulty
			election.Watcher
		}{f, watcher}
	}
	return f
}

func (f *faulty) Get(ctx context.Context) (*election.Record, error) { return f.get(ctx, f.backend) }

func (f *faulty) Update(ctx context.Context, record *election.Record, isLeaderChanged bool) error {
	return f.update(ctx, Write{Record: record, IsLeaderChanged: isLeaderChanged}, f.backend.write)
}

// apartFaulty is a MemberStorage with faults.
type apartFaulty struct{ *faulty }

func (f apartFaulty) GetMembers(ctx context.Context, ids ...string) ([]*election.Member, error) {
	return f.members(ctx, f.backend, ids)
}

func (f apartFaulty) UpdateMember(ctx context.Context, before, after *election.Member) error {
	return f.update(ctx, Write{Before: before, After: after}, f.backend.write)
}

func (f apartFaulty) UpdateWithMember(ctx context.Context, record *election.Record, isLeaderChanged bool, before, after *election.Member) error {
	return f.update(ctx, Write{record, isLeaderChanged, before, after, nil}, f.backend.write)
}

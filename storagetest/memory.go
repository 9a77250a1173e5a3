package storagetest

import (
	"context"
	"fmt"
	"sync"

	"github.com/sqlelect/election"
)

// Memory is an [election.Storage] in this process's memory: the reference that
// Run is checked against. It keeps a leader row beside the record as the SQL
// storages do, so that deleted and restored rows look the same.
//
// No method blocks, so it can be used inside a testing/synctest bubble. Safe
// for concurrent use.
type Memory struct {
	shared *memoryRows
}

var _ election.Storage = (*Memory)(nil)

// memoryRows is what all handles of one election share.
type memoryRows struct {
	mu   sync.Mutex
	rows Rows
}

// Rows is what a Memory stores: the record row and the leader row. The zero
// Rows is an empty table.
type Rows struct {
	// Record is the record row, nil when there is none.
	Record *election.Record
	// Leader is the leader row, nil when there is none.
	Leader *LeaderRow
}

// LeaderRow names the reign that guarded transactions are held to.
type LeaderRow struct {
	LeaderID string
	Term     uint64
}

func (r Rows) clone() Rows {
	c := Rows{Record: r.Record.Clone()}
	if r.Leader != nil {
		leader := *r.Leader
		c.Leader = &leader
	}
	return c
}

// NewMemory returns a handle on a new, empty election.
func NewMemory() *Memory { return &Memory{shared: new(memoryRows)} }

// Handle returns another handle on the same election, as another process would
// hold one.
func (m *Memory) Handle() *Memory { return &Memory{shared: m.shared} }

// Rows returns a copy of what is stored: a backup.
func (m *Memory) Rows() Rows {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	return m.shared.rows.clone()
}

// SetRows replaces what is stored, whatever its version: a backup restored by
// hand, or with parts left nil, rows deleted.
func (m *Memory) SetRows(rows Rows) {
	rows = rows.clone()
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	m.shared.rows = rows
}

// Get implements election.Storage.
func (m *Memory) Get(ctx context.Context) (*election.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows := m.Rows()
	record, leader := rows.Record, rows.Leader
	if record == nil {
		record = new(election.Record)
	}
	named := record.Term
	if leader != nil {
		record.Term = max(record.Term, leader.Term)
	}
	if record.LeaderID != "" {
		record.Unguarded = leader == nil || leader.LeaderID != record.LeaderID ||
			named != 0 && leader.Term != named
	}
	return record, nil
}

// Update implements election.Storage.
func (m *Memory) Update(ctx context.Context, record *election.Record, isLeaderChanged bool) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case record == nil:
		return fmt.Errorf("storagetest: update: record must not be nil")
	case record.Version < 0:
		return fmt.Errorf("storagetest: update: Version must not be negative, is %d", record.Version)
	}
	next := stored(record)
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	rows := &m.shared.rows
	version := int64(0)
	if rows.Record != nil {
		version = rows.Record.Version
	}
	if version != record.Version {
		return fmt.Errorf("storagetest: update version %d, stored is %d: %w",
			record.Version, version, election.ErrRecordConflict)
	}
	rows.Record = next
	if isLeaderChanged {
		rows.Leader = &LeaderRow{LeaderID: next.LeaderID, Term: next.Term}
		if next.Term == 0 { // a caller that knows no terms: as older members number them
			rows.Leader.Term = uint64(next.Version)
		}
	}
	return nil
}

// stored is the copy of r that is kept: as JSON would, it drops what is not
// stored and the monotonic part of times.
func stored(r *election.Record) *election.Record {
	r = r.Clone()
	r.Version++
	r.Unguarded = false
	for _, member := range r.Members {
		if member != nil {
			member.RenewTime = member.RenewTime.Round(0)
		}
	}
	return r
}

// Guard is TxnWithLeaderLock without a database: it runs fn, which must not
// block, while nobody can change the leader, if leaderID leads (in the term that
// ctx carries, where it carries one); else it returns election.ErrNotLeader.
func (m *Memory) Guard(ctx context.Context, leaderID string, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	leader := m.shared.rows.Leader
	if leaderID == "" || leader == nil || leader.LeaderID != leaderID {
		return fmt.Errorf("storagetest: guard %q: %w", leaderID, election.ErrNotLeader)
	}
	if l, ok := election.LeadershipFromContext(ctx); ok {
		if l.Leader == nil || l.Leader.ID != leaderID || l.Term != leader.Term {
			return fmt.Errorf("storagetest: guard %q in term %d: %w", leaderID, l.Term, election.ErrNotLeader)
		}
	}
	return fn()
}

package storagetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/sim"
)

// Memory is an [election.Storage] in this process's memory, and the reference that Run is checked
// against. It keeps a leader row beside the record as the SQL storages do, so a deleted or restored
// row has the same effect as there.
//
// Only changes of leader and Guards wait for each other; no other call blocks. So a Memory can be
// used inside a testing/synctest bubble. Safe for concurrent use.
type Memory struct {
	database *sim.Database
}

var _ election.MemberStorage = (*Memory)(nil)

// Rows is what a Memory stores: the record row, the leader row and the members' entries that are
// kept apart. The zero Rows is an empty table.
type Rows struct {
	// Record is the record row, nil when there is none.
	Record *election.Record
	// Leader is the leader row, nil when there is none.
	Leader *LeaderRow
	// Members holds the members' entries that are kept apart, by ID.
	Members map[string]*election.Member
}

// LeaderRow names the reign that guarded transactions are held to.
type LeaderRow struct {
	LeaderID string
	Term     uint64
}

// NewMemory returns a handle on a new, empty election.
func NewMemory() *Memory { return &Memory{sim.NewDatabase(0)} }

// Handle returns another handle on the same election, like the handle of another process.
func (m *Memory) Handle() *Memory { return &Memory{m.database} }

// Rows returns a copy of what is stored: a backup.
func (m *Memory) Rows() Rows {
	rows := m.database.Rows()
	return Rows{rows.Record, (*LeaderRow)(rows.Leader), rows.Members}
}

// SetRows replaces what is stored, whatever its version. It acts as a backup that is restored by
// hand; parts that are nil act as rows that are deleted.
func (m *Memory) SetRows(rows Rows) {
	m.database.SetRows(sim.Rows{Record: rows.Record, Leader: (*sim.LeaderRow)(rows.Leader), Members: rows.Members})
}

// Get implements election.Storage.
func (m *Memory) Get(ctx context.Context) (*election.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.database.Read(0, 0), nil
}

// Update implements election.Storage.
func (m *Memory) Update(ctx context.Context, record *election.Record, isLeaderChanged bool) error {
	return m.write(ctx, sim.Write{Record: record, IsLeaderChanged: isLeaderChanged})
}

func (m *Memory) write(ctx context.Context, w sim.Write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.database.Update(ctx, w); err != nil {
		return fmt.Errorf("storagetest: %w", err)
	}
	return nil
}

// GetMembers implements election.MemberStorage.
func (m *Memory) GetMembers(ctx context.Context, ids ...string) ([]*election.Member, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.database.ReadMembers(0, 0, ids), nil
}

// UpdateMember implements election.MemberStorage.
func (m *Memory) UpdateMember(ctx context.Context, before, after *election.Member) error {
	if before == nil && after == nil {
		return errors.New("storagetest: update of no member")
	}
	return m.write(ctx, sim.Write{Before: before, After: after})
}

// UpdateWithMember implements election.MemberStorage.
func (m *Memory) UpdateWithMember(ctx context.Context, record *election.Record, isLeaderChanged bool, before, after *election.Member) error {
	if record == nil || before == nil && after == nil {
		return errors.New("storagetest: update of no record or no member")
	}
	return m.write(ctx, sim.Write{Record: record, IsLeaderChanged: isLeaderChanged, Before: before, After: after})
}

// Guard is TxnWithLeaderLock without a database. It runs fn if leaderID leads; if ctx carries a
// reign, only in its term. The leader cannot change while fn runs. Guard waits for a change of
// leader that is under way, until ctx ends. If leaderID does not lead, Guard does not run fn and
// returns an error wrapping election.ErrNotLeader. An error of fn is returned as it is.
func (m *Memory) Guard(ctx context.Context, leaderID string, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l, carried := election.LeadershipFromContext(ctx)
	if carried && (l.Leader == nil || l.Leader.ID != leaderID || l.Term == 0) {
		return fmt.Errorf("storagetest: guard of %q: %w", leaderID, election.ErrNotLeader)
	}
	share, err := m.database.Guard(ctx, leaderID, l.Term)
	if err != nil {
		return fmt.Errorf("storagetest: %w", err)
	}
	defer share.Release(nil)
	return fn()
}

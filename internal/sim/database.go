package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sqlelect/election"
)

// Rows is what a Database stores: the record row, the leader row, and a row for each member whose
// entry is kept apart. The zero Rows is an empty table.
type Rows struct {
	Record  *election.Record // nil when there is none
	Leader  *LeaderRow       // nil when there is none
	Members map[string]*election.Member
}

// LeaderRow names the reign that guarded transactions are held to.
type LeaderRow struct {
	LeaderID string
	Term     uint64
}

// Clone returns a copy that shares nothing with r.
func (r Rows) Clone() Rows {
	c := Rows{Record: r.Record.Clone(), Members: make(map[string]*election.Member, len(r.Members))}
	for id, m := range r.Members {
		c.Members[id] = m.Clone()
	}
	if r.Leader != nil {
		leader := *r.Leader
		c.Leader = &leader
	}
	return c
}

// merged is the record as Get returns it. Rows that do not fit together are a matter of course
// after a loss of history: the higher term counts, and the reign is unguarded.
func (r Rows) merged() *election.Record {
	record := new(election.Record)
	if r.Record != nil {
		*record = *r.Record
	}
	named := record.Term
	if r.Leader != nil {
		record.Term = max(named, r.Leader.Term)
	}
	record.Unguarded = record.LeaderID != "" &&
		(r.Leader == nil || r.Leader.LeaderID != record.LeaderID || named != 0 && r.Leader.Term != named)
	return record
}

// Database is one election's table in memory. What it stores is never changed in place, so that its
// past can be kept. Safe for concurrent use.
type Database struct {
	mu    sync.Mutex
	rows  Rows
	now   *election.Record // rows, merged
	past  []pastRows       // the latest last; the last depth of them count
	depth int
	locks locks
	// restarts counts how often the rows were replaced behind the transactions' back: those that
	// were open then are gone.
	restarts int
}

// pastRows are what was stored until then.
type pastRows struct {
	Rows
	until time.Time
}

// NewDatabase returns an empty table that remembers depth earlier states.
func NewDatabase(depth int) *Database {
	return &Database{now: new(election.Record), depth: depth}
}

// Rows returns a copy of what is stored.
func (d *Database) Rows() Rows {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rows.Clone()
}

// SetRows replaces what is stored, whatever its version, as an administrator may. It keeps a copy.
// The rows before it stay part of the past: a replica that lags still shows them.
func (d *Database) SetRows(rows Rows) {
	rows = rows.Clone()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set(rows)
	d.restarts++
}

func (d *Database) set(rows Rows) {
	if d.depth > 0 {
		// The past is cut now and then, and not with each change.
		if len(d.past) == 2*d.depth {
			d.past = append(d.past[:0], d.past[d.depth:]...)
		}
		d.past = append(d.past, pastRows{d.rows, time.Now()})
	}
	d.rows, d.now = rows, rows.merged()
}

// Read returns the record as it was the given number of changes ago, or as far back as is
// remembered. With a lag above 0 it returns nothing that was replaced longer ago. This is the
// answer of a replica that lags.
func (d *Database) Read(ago int, lag time.Duration) *election.Record {
	d.mu.Lock()
	record := d.now
	if rows, old := d.ago(ago, lag); old {
		record = rows.merged()
	}
	d.mu.Unlock()
	return record.Clone()
}

// ago is what was stored then, and whether that is past.
func (d *Database) ago(changes int, lag time.Duration) (Rows, bool) {
	changes = min(changes, len(d.past), d.depth)
	for lag > 0 && changes > 0 && time.Since(d.past[len(d.past)-changes].until) > lag {
		changes--
	}
	if changes <= 0 {
		return d.rows, false
	}
	return d.past[len(d.past)-changes].Rows, true
}

// ReadMembers returns the entries of those IDs that are kept apart, or all if there are no IDs, as
// they were then.
func (d *Database) ReadMembers(ago int, lag time.Duration, ids []string) (found []*election.Member) {
	d.mu.Lock()
	rows, _ := d.ago(ago, lag)
	if len(ids) == 0 {
		ids = slices.Sorted(maps.Keys(rows.Members))
	}
	for _, id := range ids {
		if m, ok := rows.Members[id]; ok {
			found = append(found, m.Clone())
		}
	}
	d.mu.Unlock()
	return found
}

// Back undoes the given number of changes, as a restored backup or a failover to a replica that
// lagged does; all that is remembered, if there were fewer. What is undone is not part of the past
// either: no replica has it.
func (d *Database) Back(changes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if changes = min(changes, len(d.past), d.depth); changes > 0 {
		keep := len(d.past) - changes
		rows := d.past[keep].Rows
		d.past = d.past[:keep]
		d.rows, d.now = rows, rows.merged()
	}
	d.restarts++
}

// Write is what an Update stores: a record, an entry that is kept apart, or both.
type Write struct {
	Record          *election.Record // nil: it stays as it is
	IsLeaderChanged bool
	Before, After   *election.Member // both nil: no entry is written
	// Stored, if set, is called in the moment of the commit of a record, with what Get returned
	// before and returns now.
	Stored func(before, after *election.Record)
}

// Update stores all of w or nothing, by compare-and-swap on the record's Version and on what is
// kept apart. A change of leader waits for the guarded transactions that are open, until ctx ends.
// A renewal waits for nothing, as it does not touch the leader row.
func (d *Database) Update(ctx context.Context, w Write) (err error) {
	var next *election.Record
	if w.Record != nil || w.Before == nil && w.After == nil {
		if next, err = storable(w.Record); err != nil {
			return err
		}
	}
	switch {
	case w.Before != nil && w.After != nil && w.Before.ID != w.After.ID:
		return fmt.Errorf("an entry of %q cannot replace one of %q", w.After.ID, w.Before.ID)
	case w.After != nil && w.After.ID == "":
		return errors.New("the entry of a member must have an ID")
	}
	write := func() { err = d.swap(next, w) }
	d.mu.Lock()
	if !w.IsLeaderChanged {
		write()
		d.mu.Unlock()
		return err
	}
	granted := d.locks.exclusive(write)
	d.mu.Unlock()
	if waitErr := d.wait(ctx, granted); waitErr != nil {
		return fmt.Errorf("wait for guarded transactions: %w", waitErr)
	}
	return err
}

// storable is the copy of r that is kept: as JSON would, it drops what is not stored and the
// monotonic part of times.
func storable(r *election.Record) (*election.Record, error) {
	switch {
	case r == nil:
		return nil, fmt.Errorf("record must not be nil")
	case r.Version < 0:
		return nil, fmt.Errorf("Version must not be negative, is %d", r.Version)
	}
	r = r.Clone()
	r.Version++
	r.Unguarded = false
	for _, member := range r.Members {
		if member != nil {
			member.RenewTime = member.RenewTime.Round(0)
		}
	}
	return r, nil
}

// swap is the commit of an Update. Its caller holds the lock on the Database and, for a change of
// leader, the lock on the leader row.
func (d *Database) swap(next *election.Record, w Write) error {
	rows := d.rows
	if w.Before != nil || w.After != nil {
		var err error
		if rows.Members, err = swapped(rows.Members, w.Before, w.After); err != nil {
			return err
		}
	}
	if next == nil {
		d.set(rows)
		return nil
	}
	if d.now.Version != next.Version-1 {
		return fmt.Errorf("update version %d, stored is %d: %w", next.Version-1, d.now.Version, election.ErrRecordConflict)
	}
	rows.Record = next
	if w.IsLeaderChanged {
		rows.Leader = &LeaderRow{LeaderID: next.LeaderID, Term: next.Term}
		// A caller that knows no terms is of the four-column version: the version numbers its
		// reign.
		if next.Term == 0 {
			rows.Leader.Term = uint64(next.Version)
		}
	}
	before := d.now
	d.set(rows)
	if w.Stored != nil {
		w.Stored(before, d.now)
	}
	return nil
}

// swapped is a copy of members in which after stands instead of before. It is a conflict if before
// is not what stands there.
func swapped(members map[string]*election.Member, before, after *election.Member) (map[string]*election.Member, error) {
	id := ""
	if after != nil {
		id = after.ID
	} else {
		id = before.ID
	}
	stored := members[id]
	if (stored == nil) != (before == nil) || stored != nil && (stored.Nonce != before.Nonce || stored.Renewals != before.Renewals) {
		return nil, fmt.Errorf("entry of %q: %w", id, election.ErrRecordConflict)
	}
	members = maps.Clone(members)
	delete(members, id)
	if after != nil {
		if members == nil {
			members = map[string]*election.Member{}
		}
		after = after.Clone()
		after.RenewTime = after.RenewTime.Round(0)
		members[id] = after
	}
	return members, nil
}

// Share is a share of the leader row, held by a guarded transaction.
type Share struct {
	database *Database
	restarts int
}

// Guard waits until no change of leader is under way, and takes a share of the leader row if it
// names leaderID in term; in whatever term if that is 0. Else it returns ErrNotLeader.
func (d *Database) Guard(ctx context.Context, leaderID string, term uint64) (*Share, error) {
	var share *Share
	take := func() (held bool) {
		leader := d.rows.Leader
		if leaderID == "" || leader == nil || leader.LeaderID != leaderID || term != 0 && leader.Term != term {
			return false
		}
		share = &Share{d, d.restarts}
		return true
	}
	d.mu.Lock()
	granted := d.locks.shared(take)
	d.mu.Unlock()
	if err := d.wait(ctx, granted); err != nil {
		return nil, fmt.Errorf("wait for a change of leader: %w", err)
	}
	if share == nil {
		return nil, fmt.Errorf("guard of %q in term %d: %w", leaderID, term, election.ErrNotLeader)
	}
	return share, nil
}

// Release ends the transaction that holds the share, once. If it commits, commit is called in that
// moment, with what Get returns then; a nil commit rolls back. A transaction that was open when the
// rows were replaced cannot commit.
func (s *Share) Release(commit func(now *election.Record)) {
	d := s.database
	d.mu.Lock()
	defer d.mu.Unlock()
	if commit != nil && s.restarts == d.restarts {
		commit(d.now)
	}
	d.locks.release()
}

// wait returns when the lock is granted, or takes back the wish when ctx ends.
func (d *Database) wait(ctx context.Context, w *waiter) error {
	if w == nil {
		return nil
	}
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locks.withdraw(w) {
		return ctx.Err()
	}
	// The lock was granted in the moment at which ctx ended: the work has been done.
	return nil
}

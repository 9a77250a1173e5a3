package election

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Record is the whole state of one election: who leads, in which term, and who takes part. It is
// stored as one value and replaced by compare-and-swap on Version. The zero Record is an election
// that nobody has joined.
//
// Members of different versions read and write its JSON, so every field but leader_id and members
// is optional.
type Record struct {
	// LeaderID is the recorded leader, or "" when nobody leads.
	LeaderID string `json:"leader_id"`
	// Members holds the members' entries, at most one per ID. Where the Storage is a MemberStorage,
	// followers' entries are kept apart from the record.
	Members []*Member `json:"members"`
	// Version is the compare-and-swap counter, kept beside the JSON by the
	// Storage. It is 0 before the first Update.
	Version int64 `json:"-"`
	// Term is the number of the reign, and the fencing token. It grows with every acquisition, also
	// with one by the same member. If LeaderID is empty, it is the term of the last reign.
	Term uint64 `json:"term,omitempty"`
	// Nominee is the member that shall lead next: the heir that a leader named in a transfer. It is
	// a hint: for one RenewInterval the other members leave the leadership to it. Nil: no heir was
	// named.
	Nominee *Nominee `json:"nominee,omitempty"`
	// TermFloor is the highest term that a writer of the record remembers, if that is above Term;
	// else 0. After the table was emptied or restored from a backup, the next acquisition takes a
	// term above it.
	TermFloor uint64 `json:"term_floor,omitempty"`
	// FloorLease is the longest lease that a writer of TermFloor remembers; 0 without a TermFloor.
	// The reign of that term may still last: a member to which the term is news waits for this
	// lease before it acquires. A value above MaxLeaseDuration counts as MaxLeaseDuration.
	FloorLease time.Duration `json:"floor_lease,omitempty"`

	// History is random text that the creator of the record draws. If it is not what it was before,
	// the record was deleted in between, and its history is lost.
	History string `json:"history,omitempty"`
	// Roster is a checksum of the entries that are kept apart: of who is there and what each member
	// says of itself, but not of renewals. The leader writes it with its renewals. When it changes,
	// the other members read those entries again.
	Roster uint64 `json:"roster,omitempty"`

	// Unguarded is set by Get if the leader row does not hold the reign that the record names,
	// because the row was deleted, restored or written by hand. Guarded transactions of that reign
	// are refused, so its leader steps down and acquires anew. A Storage without a leader row
	// leaves Unguarded false.
	Unguarded bool `json:"-"`
}

// Nominee names one process of one member. An empty Nonce stands for any process with that ID.
type Nominee struct {
	ID    string `json:"id"`
	Nonce string `json:"nonce,omitempty"`
}

var (
	_ sql.Scanner   = (*Record)(nil)
	_ driver.Valuer = Record{}
)

// Clone returns a copy that shares nothing with r; nil for nil.
func (r *Record) Clone() *Record {
	if r == nil {
		return nil
	}
	c := *r
	c.Members = slices.Clone(r.Members)
	for i, m := range c.Members {
		c.Members[i] = m.Clone()
	}
	if r.Nominee != nil {
		nominee := *r.Nominee
		c.Nominee = &nominee
	}
	return &c
}

// FindMember returns the entry of the member with that ID and whether there is
// one. The entry is shared with r.
func (r *Record) FindMember(id string) (*Member, bool) {
	if i := r.indexOf(id); i >= 0 {
		return r.Members[i], true
	}
	return nil, false
}

func (r *Record) indexOf(id string) int {
	return slices.IndexFunc(r.Members, func(m *Member) bool { return m != nil && m.ID == id })
}

// put replaces the entry with m's ID, or adds it.
func (r *Record) put(m *Member) {
	if i := r.indexOf(m.ID); i >= 0 {
		r.Members[i] = m
		return
	}
	r.Members = append(r.Members, m)
}

// remove drops the entry of id, and reports whether there was one.
func (r *Record) remove(id string) bool {
	n := len(r.Members)
	r.Members = slices.DeleteFunc(r.Members, func(m *Member) bool { return m.ID == id })
	return len(r.Members) < n
}

// Value implements driver.Valuer: the record's JSON.
func (r Record) Value() (driver.Value, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode election record: %w", err)
	}
	return string(text), nil
}

// Scan implements sql.Scanner for a text or binary column. NULL and the empty string give the zero
// Record. Anything else that is not a record's JSON is an error, which leaves r as it was. Scan
// drops what no member of this library writes: entries without an ID, and all but the first of the
// entries with one ID.
func (r *Record) Scan(src any) error {
	var text []byte
	switch v := src.(type) {
	case nil:
	case string:
		text = []byte(v)
	case []byte:
		text = v
	default:
		return fmt.Errorf("decode election record: column holds %T, want text", src)
	}
	if len(text) == 0 {
		*r = Record{}
		return nil
	}
	var decoded Record
	if err := json.Unmarshal(text, &decoded); err != nil {
		return fmt.Errorf("decode election record: %w", err)
	}
	decoded.dropUnreadable()
	*r = decoded
	return nil
}

// dropUnreadable removes the entries that Scan drops.
func (r *Record) dropUnreadable() {
	seen := make(map[string]bool, len(r.Members))
	r.Members = slices.DeleteFunc(r.Members, func(m *Member) bool {
		drop := m == nil || m.ID == "" || seen[m.ID]
		if !drop {
			seen[m.ID] = true
		}
		return drop
	})
}

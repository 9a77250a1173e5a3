package election

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Record is the whole state of one election: who leads, in which term, and who
// takes part. It is stored as one value and replaced by compare-and-swap on
// Version. The zero Record is an election that nobody has joined.
//
// Its JSON is read and written by members of different ages: every field beyond
// leader_id and members is optional.
type Record struct {
	// LeaderID is the recorded leader, or "" when nobody leads.
	LeaderID string `json:"leader_id"`
	// Members holds one entry per participant, at most one per ID. Where the
	// Storage is a MemberStorage, followers' entries are kept apart from it.
	Members []*Member `json:"members"`
	// Version is the compare-and-swap counter, kept beside the JSON by the
	// Storage. It is 0 before the first Update.
	Version int64 `json:"-"`
	// Term numbers the reigns: it grows with every acquisition, also by the same
	// member, and is the fencing token. With an empty LeaderID it is the term
	// of the last reign.
	Term uint64 `json:"term,omitempty"`
	// Nominee is who shall lead next, named by a leader that transferred its
	// leadership. A hint: the others leave it alone for one RenewInterval.
	Nominee *Nominee `json:"nominee,omitempty"`
	// TermFloor is the highest term any member remembers, written when it is
	// above Term: after the table was emptied or restored from a backup, the
	// next acquisition takes a term above it.
	TermFloor uint64 `json:"term_floor,omitempty"`
	// FloorLease is the longest lease that any member remembers, written beside
	// TermFloor: whoever first reads of the reign of that term waits for so long, as it
	// may still last. More than MaxLeaseDuration counts as MaxLeaseDuration.
	FloorLease time.Duration `json:"floor_lease,omitempty"`

	// History is drawn at random by whoever creates the record: another one means
	// that the record was deleted, and its history lost, in between.
	History string `json:"history,omitempty"`
	// Roster changes when a member comes, goes, or changes what it says of itself,
	// among those whose entries are kept apart. The leader writes it, with its
	// renewals; whoever sees it change reads those entries again.
	Roster uint64 `json:"roster,omitempty"`

	// Unguarded is set by Get when the leader row does not hold the reign that
	// the record names (it was deleted, restored or written by hand): guarded
	// transactions refuse that reign, so its leader gives it up and campaigns
	// for a new one. A Storage without a leader row leaves it false.
	Unguarded bool `json:"-"`
}

// Nominee names one process of one member.
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

// Scan implements sql.Scanner for a text or binary column. NULL and the empty
// string give the zero Record; anything that is not a record's JSON is an
// error that leaves r as it was. Entries without an ID and repeated IDs, which
// no member of this library writes, are dropped.
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

// dropUnreadable removes what no member of this library writes: entries without
// an ID and repeated IDs.
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

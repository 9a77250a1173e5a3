package election

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"github.com/sqlelect/election/internal/rows"
)

// electionRows is the storage behind SQLStorage and ORMStorage. Only here a Record or a Member is
// translated into rows of the table, and back.
type electionRows struct{ rows.Election }

// openRows opens the table, and returns the rows of the election named "". identity names the
// database; "" means that the database is asked for it.
func openRows(db *sql.DB, tableName, identity string) (electionRows, error) {
	table, err := rows.Open(db, rows.Options{Name: cmp.Or(tableName, TableNameElection), Identity: identity, Picture: pictureOf})
	if err != nil {
		return electionRows{}, err
	}
	return electionRows{table.Election("")}, nil
}

func (e electionRows) named(name string) electionRows { return electionRows{e.Named(name)} }

func (e electionRows) asleep() electionRows { return electionRows{e.Asleep()} }

// get is Storage.Get.
func (e electionRows) get(ctx context.Context) (*Record, error) {
	found, err := e.Get(ctx)
	if err != nil {
		return nil, err
	}
	record, err := recordOf(found)
	if err != nil {
		return nil, e.Reading(err)
	}
	return record, nil
}

// recordOf makes one Record out of the record row and the leader row. If the record row is missing
// or was never written, it is a zero Record with the leader row's term.
func recordOf(found rows.Found) (*Record, error) {
	record := new(Record)
	if r := found.Record; r != nil {
		if err := record.Scan(r.Text); err != nil {
			return nil, fmt.Errorf("row %d: %w", r.Place, err)
		}
		if record.Version = r.Version; r.Version == 0 {
			*record = Record{} // it was never written
		}
	}
	written := record.Term // 0: written by the four-column version, whose terms the leader row counts
	leader := found.Leader
	if leader != nil {
		record.Term = max(written, uint64(leader.Version))
	}
	if record.LeaderID != "" {
		record.Unguarded = leader == nil || leader.LeaderID != record.LeaderID ||
			written != 0 && uint64(leader.Version) != written
	}
	return record, nil
}

// update is Storage.Update.
func (e electionRows) update(ctx context.Context, record *Record, isLeaderChanged bool) error {
	change, err := changeTo(record, isLeaderChanged)
	if err != nil {
		return e.Updating(change.Version, err)
	}
	return e.Update(ctx, change)
}

// updateWithMember is MemberStorage.UpdateWithMember.
func (e electionRows) updateWithMember(ctx context.Context, record *Record, isLeaderChanged bool, before, after *Member) error {
	change, err := changeTo(record, isLeaderChanged)
	if err == nil {
		change.Member, err = memberChange(before, after)
	}
	if err != nil {
		return e.Updating(change.Version, err)
	}
	return e.Update(ctx, change)
}

// changeTo returns the Change that stores r.
func changeTo(r *Record, isLeaderChanged bool) (c rows.Change, err error) {
	if r == nil {
		return c, errors.New("record must not be nil")
	}
	c = rows.Change{LeaderID: r.LeaderID, Version: r.Version, LeaderChanged: isLeaderChanged}
	switch {
	case r.Version < 0 || r.Version == math.MaxInt64:
		return c, fmt.Errorf("Version must be at least 0 and below the largest int64, is %d", r.Version)
	case r.Term > math.MaxInt64:
		return c, fmt.Errorf("Term must fit into an int64, is %d", r.Term)
	}
	if err := rows.CheckText("LeaderID", r.LeaderID, maxIDBytes); err != nil {
		return c, err
	}
	c.Term = int64(r.Term)
	if r.Term == 0 {
		c.Term = r.Version + 1 // the number that the four-column version gives a term
	}
	c.Text, err = r.Value()
	return c, err
}

// updateMember is MemberStorage.UpdateMember.
func (e electionRows) updateMember(ctx context.Context, before, after *Member) error {
	change, err := memberChange(before, after)
	if err != nil {
		return e.UpdatingMember(change.ID, err)
	}
	return e.UpdateMember(ctx, change)
}

// memberVersion is the version of the row that holds m. Each state of the entry has another one.
func memberVersion(m *Member) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.Nonce))
	return int64((h.Sum64()>>2 + m.Renewals) & math.MaxInt64)
}

// memberChange is the change of one member row from before to after. A nil before means that there
// is no row yet; a nil after removes the row.
func memberChange(before, after *Member) (c rows.MemberChange, err error) {
	switch {
	case before == nil && after == nil:
		return c, errors.New("one of the two entries must not be nil")
	case before != nil && after != nil && before.ID != after.ID:
		return c, fmt.Errorf("an entry of %q cannot replace one of %q", after.ID, before.ID)
	case before != nil:
		c.ID = before.ID
		from := memberVersion(before)
		c.From = &from
	}
	if after != nil {
		c.ID = after.ID
		to := memberVersion(after)
		text, err := json.Marshal(after)
		if err != nil {
			return c, fmt.Errorf("encode entry of %q: %w", after.ID, err)
		}
		c.To, c.Text = &to, string(text)
	}
	if c.ID == "" {
		return c, errors.New("Member.ID must not be empty")
	}
	return c, rows.CheckText("Member.ID", c.ID, maxIDBytes)
}

// getMembers is MemberStorage.GetMembers.
func (e electionRows) getMembers(ctx context.Context, ids []string) (found []*Member, err error) {
	if len(ids) == 0 {
		all, err := e.allMembers(ctx)
		return (&Record{Members: all.members}).Clone().Members, err
	}
	entries, err := e.Members(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		m := new(Member)
		if err := json.Unmarshal([]byte(entry.Text), m); err != nil {
			return nil, e.ReadingMembers(fmt.Errorf("decode entry of %q: %w", entry.ID, err))
		}
		if m.ID == entry.ID && slices.Contains(ids, m.ID) {
			found = append(found, m)
		}
	}
	return found, nil
}

// picture is the content of all member rows of one election. It is never changed, so a thousand
// members in one process can share one picture.
type picture struct {
	members []*Member // sorted by ID
	roster  uint64    // of members
}

func pictureOf(entries []rows.Entry) any {
	var all Record
	for _, entry := range entries {
		// A row that was spoilt by hand must not hide all others.
		if m := new(Member); json.Unmarshal([]byte(entry.Text), m) == nil && m.ID == entry.ID {
			all.Members = append(all.Members, m)
		}
	}
	all.dropUnreadable()
	slices.SortFunc(all.Members, func(a, b *Member) int { return cmp.Compare(a.ID, b.ID) })
	return picture{all.Members, rosterOf(all.Members)}
}

// allMembers returns the content of all member rows. Others share it: the caller must not change
// it.
func (e electionRows) allMembers(ctx context.Context) (picture, error) {
	all, err := e.AllMembers(ctx)
	if err != nil {
		return picture{}, err
	}
	return all.(picture), nil
}

// rowsOf returns the rows behind s, if s is a *SQLStorage or *ORMStorage itself. A type that embeds
// one of them does not count, because it may override their methods.
func rowsOf(s Storage) (electionRows, bool) {
	if s, ok := s.(*SQLStorage); ok {
		return s.rows, true
	}
	return ormRowsOf(s)
}

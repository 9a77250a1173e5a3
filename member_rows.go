package election

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// A member row holds the entry of one member, kept apart from the record: its ID as
// leader_id, its JSON as record, and as version a number that tells this state of
// the entry from every other.

// firstMember is the first slot of member rows.
const firstMember = 100

// memberRow is where the entry of id is kept: by its hash, so that it is found
// without a search, and so that two processes with one ID meet in the key.
func (e electionRows) memberRow(id string) row {
	return row{"election = ? AND slot = ?", []any{e.election, memberSlot(id)}}
}

func memberSlot(id string) int64 {
	sum := sha256.Sum256([]byte(id))
	return firstMember + int64(binary.BigEndian.Uint64(sum[:])>>2) // 62 bits: no two IDs share one
}

// memberVersion is the version of the row that holds m.
func memberVersion(m *Member) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.Nonce))
	return int64((h.Sum64()>>2 + m.Renewals) & math.MaxInt64)
}

// memberChange replaces one member row; the zero value does nothing.
type memberChange struct {
	id   string
	from *int64 // the version of the row that is replaced, nil if there is none
	to   *int64 // the version of the row that replaces it, nil to remove it
	text string
}

func newMemberChange(before, after *Member) (c memberChange, err error) {
	switch {
	case before == nil && after == nil:
		return c, errors.New("one of the two entries must not be nil")
	case before != nil && after != nil && before.ID != after.ID:
		return c, fmt.Errorf("an entry of %q cannot replace one of %q", after.ID, before.ID)
	case before != nil:
		c.id = before.ID
		from := memberVersion(before)
		c.from = &from
	}
	if after != nil {
		c.id = after.ID
		to := memberVersion(after)
		text, err := json.Marshal(after)
		if err != nil {
			return c, fmt.Errorf("encode entry of %q: %w", after.ID, err)
		}
		c.to, c.text = &to, string(text)
	}
	if c.id == "" {
		return c, errors.New("Member.ID must not be empty")
	}
	return c, checkText("Member.ID", c.id, maxIDBytes)
}

// hasPlace returns the error of every call on member rows, if any.
func (e electionRows) hasPlace(ctx context.Context) error {
	if err := e.usable(ctx); err != nil {
		return err
	}
	if grown, err := e.isGrown(ctx, e.db); err != nil || grown {
		return err
	}
	return fmt.Errorf("%w: %w", errors.ErrUnsupported, e.schemaError(ctx))
}

// keepsApart returns the error of every write of member rows, if any: whoever may not
// remove them shall not begin with them. (An observer needs no right but to read.)
func (e electionRows) keepsApart(ctx context.Context) error {
	if err := e.hasPlace(ctx); err != nil {
		return err
	}
	return e.turns.Own(func() error { return sqldb.Retry(ctx, func() error { return e.mayRemove(ctx) }) })
}

// getMembers is MemberStorage.GetMembers.
func (e electionRows) getMembers(ctx context.Context, ids []string) (found []*Member, err error) {
	if len(ids) == 0 {
		all, err := e.allMembers(ctx)
		return (&Record{Members: all.members}).Clone().Members, err
	}
	if err = e.hasPlace(ctx); err == nil {
		err = sqldb.Retry(ctx, func() (err error) {
			found, err = e.readMembers(ctx, ids)
			return err
		})
	}
	if err != nil {
		return nil, e.readingMembers(err)
	}
	return found, nil
}

func (e electionRows) readingMembers(err error) error {
	return fmt.Errorf("election: read members of %v: %w", e, err)
}

// allMembers returns all that is kept apart. It is not the caller's to change: others
// that asked for it at the same time share it.
func (e electionRows) allMembers(ctx context.Context) (found foundMembers, err error) {
	if err = e.hasPlace(ctx); err == nil {
		shared := false
		if found, shared, err = e.shared.members.Do(ctx, e.election); !shared {
			found, err = e.readMembersOf(ctx)
		}
	}
	if err != nil {
		return foundMembers{}, e.readingMembers(err)
	}
	return found, nil
}

func (e electionRows) readMembers(ctx context.Context, ids []string) ([]*Member, error) {
	args := []any{e.election}
	for _, id := range ids {
		args = append(args, memberSlot(id))
	}
	var found []*Member
	err := e.query(ctx, "SELECT leader_id, record FROM % WHERE election = ? AND slot IN "+in(len(ids)), args, func(rows *sql.Rows) error {
		var id, text sql.NullString
		if err := rows.Scan(&id, &text); err != nil {
			return err
		}
		m := new(Member)
		if err := json.Unmarshal([]byte(text.String), m); err != nil {
			return fmt.Errorf("decode entry of %q: %w", id.String, err)
		}
		if m.ID == id.String && slices.Contains(ids, m.ID) {
			found = append(found, m)
		}
		return nil
	})
	return found, err
}

// updateMember is MemberStorage.UpdateMember.
func (e electionRows) updateMember(ctx context.Context, before, after *Member) error {
	c, err := newMemberChange(before, after)
	if err == nil {
		err = e.keepsApart(ctx)
	}
	if err == nil {
		err = e.renewMember(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("election: update member %q of %v: %w", c.id, e, err)
	}
	return nil
}

// renewMember is as renewRecord.
func (e electionRows) renewMember(ctx context.Context, c memberChange) error {
	if c.from != nil && c.to != nil {
		renewed, err := e.renewTogether(ctx, renewal{e.election, memberSlot(c.id), *c.from, *c.to, c.id, c.text})
		if renewed || err != nil {
			return err
		}
	}
	return e.write(ctx, func(q sqldb.Execer) error { return e.writeMember(ctx, q, c) })
}

// writeMember replaces the member row if it is still as c expects.
func (e electionRows) writeMember(ctx context.Context, q sqldb.Execer, c memberChange) error {
	switch {
	case c.from == nil && c.to == nil:
		return nil
	case c.from == nil:
		return e.insertMember(ctx, q, c)
	}
	return e.exec(ctx, q, e.memberUpdate(c))
}

// memberUpdate replaces or removes the one row that is as c expects.
func (e electionRows) memberUpdate(c memberChange) dialect.Statement {
	r := e.memberRow(c.id)
	s := dialect.Statement{
		Write: e.dialect.BoundedWrite + "DELETE FROM %", Where: r.where + " AND version = ?", Rows: append(r.args, *c.from),
		Missed: fmt.Errorf("entry of %q: %w", c.id, ErrRecordConflict),
	}
	if c.to != nil {
		version, args := e.dialect.Written("id", *c.to, writtenTexts(c.id, c.text)...)
		s.Write, s.Args = e.dialect.BoundedWrite+"UPDATE % SET record = ?, version = "+version, append([]any{c.text}, args...)
	}
	return s
}

// insertMember adds the row unless it exists, in one statement. It does not pass over
// existing rows as insertRow does: where only INSERT IGNORE can, that would cut values
// which the columns cannot hold. There an existing row is an error of the statement.
func (e electionRows) insertMember(ctx context.Context, q sqldb.Execer, c memberChange) error {
	const draws = 20 // as in insertRow
	for range draws {
		query, args := e.memberInsert(c).Query()
		n, err := sqldb.Exec(ctx, q, e.sql(query), e.dialect.Args(args...)...)
		if n == 1 || err != nil && dialect.Classify(err) != dialect.Conflict {
			return err
		}
		switch n, err := e.count(ctx, q, e.memberRow(c.id)); { // or is it the id that is taken?
		case err != nil:
			return err
		case n > 0:
			return fmt.Errorf("entry of %q: %w", c.id, ErrRecordConflict)
		}
	}
	return fmt.Errorf("no free id for the entry of %q", c.id)
}

// memberInsert adds the row; where it exists, or the id that was drawn, it adds none or
// fails as a conflict.
func (e electionRows) memberInsert(c memberChange) dialect.Statement {
	version, args := e.dialect.Written("id", *c.to, writtenTexts(c.id, c.text)...)
	r := e.memberRow(c.id)
	return dialect.Statement{
		Write:  e.dialect.BoundedWrite + "INSERT INTO % (id, leader_id, record, version, election, slot)",
		Values: "?, ?, ?, " + version + ", ?, ?", Existing: e.dialect.SkipExisting,
		Args:  slices.Concat([]any{rowID(), c.id, c.text}, args, []any{e.election, memberSlot(c.id)}),
		Where: r.where, Rows: r.args,
		// Which of both it is, is found out step by step.
		Missed: fmt.Errorf("the entry of %q exists, or its row's id: %w", c.id, errors.ErrUnsupported),
	}
}

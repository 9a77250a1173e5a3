package rows

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
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
func (e Election) memberRow(id string) row {
	return row{"election = ? AND slot = ?", []any{e.election, memberSlot(id)}}
}

func memberSlot(id string) int64 {
	sum := sha256.Sum256([]byte(id))
	return firstMember + int64(binary.BigEndian.Uint64(sum[:])>>2) // 62 bits: no two IDs share one
}

// MemberChange replaces one member row; the zero value does nothing.
type MemberChange struct {
	ID   string
	From *int64 // the version of the row that is replaced, nil if there is none
	To   *int64 // the version of the row that replaces it, nil to remove it
	Text string
}

// Entry is what a member row holds.
type Entry struct{ ID, Text string }

// hasPlace returns the error of every call on member rows, if any.
func (e Election) hasPlace(ctx context.Context) error {
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
func (e Election) keepsApart(ctx context.Context) error {
	if err := e.hasPlace(ctx); err != nil {
		return err
	}
	return e.turns.Own(func() error { return sqldb.Retry(ctx, func() error { return e.mayRemove(ctx) }) })
}

// Members returns the entries of those IDs, as far as there are any, in whatever order. It retries as Get does.
func (e Election) Members(ctx context.Context, ids []string) (found []Entry, err error) {
	if err = e.hasPlace(ctx); err == nil {
		err = sqldb.Retry(ctx, func() (err error) {
			found, err = e.readMembers(ctx, ids)
			return err
		})
	}
	if err != nil {
		return nil, e.ReadingMembers(err)
	}
	return found, nil
}

// ReadingMembers says of err that it came in the way of Members.
func (e Election) ReadingMembers(err error) error {
	return fmt.Errorf("election: read members of %v: %w", e, err)
}

// AllMembers returns the Picture (see Options) of all entries. It is not the caller's to change: others
// that asked for it at the same time share it.
func (e Election) AllMembers(ctx context.Context) (picture any, err error) {
	if err = e.hasPlace(ctx); err == nil {
		shared := false
		if picture, shared, err = e.shared.members.Do(ctx, e.election); !shared {
			picture, err = e.readMembersOf(ctx)
		}
	}
	if err != nil {
		return nil, e.ReadingMembers(err)
	}
	return picture, nil
}

func (e Election) readMembers(ctx context.Context, ids []string) (found []Entry, err error) {
	args := []any{e.election}
	for _, id := range ids {
		args = append(args, memberSlot(id))
	}
	err = e.query(ctx, "SELECT leader_id, record FROM % WHERE election = ? AND slot IN "+in(len(ids)), args, func(rows *sql.Rows) error {
		var id, text sql.NullString
		err := rows.Scan(&id, &text)
		found = append(found, Entry{id.String, text.String})
		return err
	})
	return found, err
}

// UpdateMember replaces one entry, if its row is as c expects. Its error wraps ErrConflict if it is not, and
// errors.ErrUnsupported where this user may not remove rows.
func (e Election) UpdateMember(ctx context.Context, c MemberChange) error {
	err := e.keepsApart(ctx)
	if err == nil {
		err = e.renewMember(ctx, c)
	}
	if err != nil {
		return e.UpdatingMember(c.ID, err)
	}
	return nil
}

// UpdatingMember says of err that it came in the way of UpdateMember.
func (e Election) UpdatingMember(id string, err error) error {
	return fmt.Errorf("election: update member %q of %v: %w", id, e, err)
}

// renewMember is as renewRecord.
func (e Election) renewMember(ctx context.Context, c MemberChange) error {
	if c.From != nil && c.To != nil {
		renewed, err := e.renewTogether(ctx, renewal{e.election, memberSlot(c.ID), *c.From, *c.To, c.ID, c.Text})
		if renewed || err != nil {
			return err
		}
	}
	return e.write(ctx, func(q sqldb.Execer) error { return e.writeMember(ctx, q, c) })
}

// writeMember replaces the member row if it is still as c expects.
func (e Election) writeMember(ctx context.Context, q sqldb.Execer, c MemberChange) error {
	switch {
	case c.From == nil && c.To == nil:
		return nil
	case c.From == nil:
		return e.insertMember(ctx, q, c)
	}
	return e.exec(ctx, q, e.memberUpdate(c))
}

// memberUpdate replaces or removes the one row that is as c expects.
func (e Election) memberUpdate(c MemberChange) dialect.Statement {
	r := e.memberRow(c.ID)
	s := dialect.Statement{
		Write: e.dialect.BoundedWrite + "DELETE FROM %", Where: r.where + " AND version = ?", Rows: append(r.args, *c.From),
		Missed: fmt.Errorf("entry of %q: %w", c.ID, ErrConflict),
	}
	if c.To != nil {
		version, args := e.dialect.Written("id", *c.To, writtenTexts(c.ID, c.Text)...)
		s.Write, s.Args = e.dialect.BoundedWrite+"UPDATE % SET record = ?, version = "+version, append([]any{c.Text}, args...)
	}
	return s
}

// insertMember adds the row unless it exists, in one statement. It does not pass over
// existing rows as insertRow does: where only INSERT IGNORE can, that would cut values
// which the columns cannot hold. There an existing row is an error of the statement.
func (e Election) insertMember(ctx context.Context, q sqldb.Execer, c MemberChange) error {
	const draws = 20 // as in insertRow
	for range draws {
		query, args := e.memberInsert(c).Query()
		n, err := sqldb.Exec(ctx, q, e.sql(query), e.dialect.Args(args...)...)
		if n == 1 || err != nil && dialect.Classify(err) != dialect.Conflict {
			return err
		}
		switch n, err := e.count(ctx, q, e.memberRow(c.ID)); { // or is it the id that is taken?
		case err != nil:
			return err
		case n > 0:
			return fmt.Errorf("entry of %q: %w", c.ID, ErrConflict)
		}
	}
	return fmt.Errorf("no free id for the entry of %q", c.ID)
}

// memberInsert adds the row; where it exists, or the id that was drawn, it adds none or
// fails as a conflict.
func (e Election) memberInsert(c MemberChange) dialect.Statement {
	version, args := e.dialect.Written("id", *c.To, writtenTexts(c.ID, c.Text)...)
	r := e.memberRow(c.ID)
	return dialect.Statement{
		Write:  e.dialect.BoundedWrite + "INSERT INTO % " + Columns,
		Values: "?, ?, ?, " + version + ", ?, ?", Existing: e.dialect.SkipExisting,
		Args:  slices.Concat([]any{NewID(), c.ID, c.Text}, args, []any{e.election, memberSlot(c.ID)}),
		Where: r.where, Rows: r.args,
		// Which of both it is, is found out step by step.
		Missed: fmt.Errorf("the entry of %q exists, or its row's id: %w", c.ID, errors.ErrUnsupported),
	}
}

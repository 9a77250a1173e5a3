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

// A member row holds the entry of one member, apart from the record: leader_id is the member's ID,
// record is the entry's JSON, and version is a number that each state of the entry has for itself.

// firstMember is the first slot of member rows.
const firstMember = 100

// memberRow is the row that holds the entry of id. Its slot is a hash of id. So the row is found
// without a search, and two processes with one ID meet in the key.
func (e Election) memberRow(id string) row {
	return row{"election = ? AND slot = ?", []any{e.election, memberSlot(id)}}
}

func memberSlot(id string) int64 {
	sum := sha256.Sum256([]byte(id))
	return firstMember + int64(binary.BigEndian.Uint64(sum[:])>>2) // 62 bits: two IDs do not meet by chance
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

// checkMemberRowsPlace returns an error if every call on member rows must fail. The error wraps
// errors.ErrUnsupported if the table has no place for them. hasPlace may ask the database.
func (e Election) checkMemberRowsPlace(ctx context.Context) error {
	if err := e.checkUsable(ctx); err != nil {
		return err
	}
	if grown, err := e.hasElectionColumns(ctx, e.db); err != nil || grown {
		return err
	}
	return fmt.Errorf("%w: %w", errors.ErrUnsupported, e.schemaError(ctx))
}

// checkMemberRowsWritable returns an error if every write of member rows must fail. It also fails
// if this user may not DELETE: a member must not create a row that it cannot remove. (An observer
// needs no right but the right to read.)
func (e Election) checkMemberRowsWritable(ctx context.Context) error {
	if err := e.checkMemberRowsPlace(ctx); err != nil {
		return err
	}
	return e.turns.Own(func() error { return sqldb.Retry(ctx, func() error { return e.checkDeleteRight(ctx) }) })
}

// Members returns the entries of those ids that have a row, in no order. It retries as Get does.
func (e Election) Members(ctx context.Context, ids []string) (found []Entry, err error) {
	if err = e.checkMemberRowsPlace(ctx); err == nil {
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

// ReadingMembers wraps err as the error of Members or AllMembers.
func (e Election) ReadingMembers(err error) error {
	return fmt.Errorf("election: read members of %v: %w", e, err)
}

// AllMembers returns the Picture (see Options) of all entries. Callers at the same time share it:
// they must not change it.
func (e Election) AllMembers(ctx context.Context) (picture any, err error) {
	if err = e.checkMemberRowsPlace(ctx); err == nil {
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

// UpdateMember makes one change of an entry, if its row is as c expects. If it is not, nothing is
// written and the error wraps ErrConflict. If this user may not remove rows, or the table has no
// place for them, the error wraps errors.ErrUnsupported.
func (e Election) UpdateMember(ctx context.Context, c MemberChange) error {
	err := e.checkMemberRowsWritable(ctx)
	if err == nil {
		err = e.renewMember(ctx, c)
	}
	if err != nil {
		return e.UpdatingMember(c.ID, err)
	}
	return nil
}

// UpdatingMember wraps err as the error of UpdateMember.
func (e Election) UpdatingMember(id string, err error) error {
	return fmt.Errorf("election: update member %q of %v: %w", id, e, err)
}

// renewMember is renewRecord for a member row. Only a renewal is sent together with others.
func (e Election) renewMember(ctx context.Context, c MemberChange) error {
	if c.From != nil && c.To != nil {
		renewed, err := e.renewTogether(ctx, renewal{e.election, memberSlot(c.ID), *c.From, *c.To, c.ID, c.Text})
		if renewed || err != nil {
			return err
		}
	}
	return e.write(ctx, func(q sqldb.Execer) error { return e.writeMember(ctx, q, c) })
}

// writeMember makes the change c if the member row is as c expects.
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
		IfNoRow: fmt.Errorf("entry of %q: %w", c.ID, ErrConflict),
	}
	if c.To != nil {
		version, args := e.dialect.Written("id", *c.To, writtenTexts(c.ID, c.Text)...)
		s.Write, s.Args = e.dialect.BoundedWrite+"UPDATE % SET record = ?, version = "+version, append([]any{c.Text}, args...)
	}
	return s
}

// insertMember adds the row. If the row exists, the error wraps ErrConflict. insertRow's way of
// passing over an existing row is INSERT IGNORE on some engines, which also cuts values that a
// column cannot hold. There insertMember uses a plain INSERT, and an existing row is an error of
// the statement.
func (e Election) insertMember(ctx context.Context, q sqldb.Execer, c MemberChange) error {
	const draws = 20 // as in insertRow
	for range draws {
		query, args := e.memberInsert(c).Query()
		n, err := sqldb.Exec(ctx, q, e.sql(query), e.dialect.Args(args...)...)
		if n == 1 || err != nil && dialect.Classify(err) != dialect.Conflict {
			return err
		}
		switch n, err := e.count(ctx, q, e.memberRow(c.ID)); { // n = 0: the id was taken
		case err != nil:
			return err
		case n > 0:
			return fmt.Errorf("entry of %q: %w", c.ID, ErrConflict)
		}
	}
	return fmt.Errorf("no free id for the entry of %q", c.ID)
}

// memberInsert adds the row. If the row exists, or the id that was drawn is taken, it adds none or
// fails with class Conflict, depending on the engine.
func (e Election) memberInsert(c MemberChange) dialect.Statement {
	version, args := e.dialect.Written("id", *c.To, writtenTexts(c.ID, c.Text)...)
	r := e.memberRow(c.ID)
	return dialect.Statement{
		Write:  e.dialect.BoundedWrite + "INSERT INTO % " + Columns,
		Values: "?, ?, ?, " + version + ", ?, ?", Existing: e.dialect.SkipExisting,
		Args:  slices.Concat([]any{NewID(), c.ID, c.Text}, args, []any{e.election, memberSlot(c.ID)}),
		Where: r.where, Rows: r.args,
		// changeInTransaction then finds out which of the two it is.
		IfNoRow: fmt.Errorf("the entry of %q exists, or its row's id: %w", c.ID, errors.ErrUnsupported),
	}
}

package election

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// electionRows are the rows of one election in its table: the storage behind
// SQLStorage and ORMStorage. It is all plain SQL, also for ORMStorage: an ORM
// that updates from a struct skips zero values, and a resignation would leave
// the old leader in place.
type electionRows struct {
	*electionTable
	election string
	invalid  error // of the election's name, reported by every call
	asleep   bool  // nobody is told of changes of leader through these rows
}

// rowColumns are those that a renewal replaces, and by which it finds its row.
var rowColumns = dialect.Columns{ID: "id", Name: "election", Place: "slot", Version: "version", Others: []string{"leader_id", "record"}}

// writtenTexts are what a written row is compared with, for engines whose sessions may change it. An ID is
// bytes, in an older table's column of whatever character set.
func writtenTexts(leaderID string, text any) []dialect.Text {
	return []dialect.Text{{Column: "leader_id", Value: leaderID, Bytes: true}, {Column: "record", Value: text}}
}

// row is a condition that selects one row, and its arguments.
type row struct {
	where string
	args  []any
}

func (e electionRows) recordRow() row { return e.row(recordRowID, recordSlot) }
func (e electionRows) leaderRow() row { return e.row(leaderRowID, leaderSlot) }

func (e electionRows) row(id, slot int) row {
	if e.election == "" {
		return row{"id = ?", []any{id}}
	}
	return row{"election = ? AND slot = ?", []any{e.election, slot}}
}

// named returns another election of the same table.
func (e electionRows) named(name string) electionRows {
	e.election, e.invalid = name, checkText("election name", name, maxElectionName)
	return e
}

// scope tells this election from every other one, across all handles, by its table's
// schema too. Some engines fold the case of names, so two that differ in case only share a
// scope, as do two servers that cannot be told apart: a reign held against the wrong one
// is refused, one overlooked is not.
func (e electionRows) scope() string {
	return fmt.Sprintf("%s\x00%s\x00%s", e.identity, strings.ToLower(e.quoted), e.election)
}

func (e electionRows) String() string {
	if e.election == "" {
		return fmt.Sprintf("table %q", e.name)
	}
	return fmt.Sprintf("election %q in table %q", e.election, e.name)
}

// usable returns the error that every call on these rows ends with, if any.
func (e electionRows) usable(ctx context.Context) error {
	if e.invalid != nil || e.election == "" {
		return e.invalid
	}
	if grown, err := e.isGrown(ctx, e.db); err != nil || grown {
		return err
	}
	return e.schemaError(ctx)
}

// get reads both rows in one statement: two would see two moments.
func (e electionRows) get(ctx context.Context) (*Record, error) {
	err := e.usable(ctx)
	var found foundRows
	if err == nil {
		found, err = e.find(ctx)
	}
	if err == nil {
		err = found.err
	}
	if err != nil {
		return nil, fmt.Errorf("election: read %v: %w", e, err)
	}
	return found.merge(), nil
}

func (e electionRows) find(ctx context.Context) (found foundRows, err error) {
	if found, shared, err := e.shared.records.Do(ctx, e.election); shared {
		return found, err
	}
	err = sqldb.Retry(ctx, func() (err error) {
		found, err = e.read(ctx)
		return err
	})
	return found, err
}

// foundRows is what is stored of one election; a missing row is nil.
type foundRows struct {
	record, leader *storedRow
	err            error // what is stored cannot be read
}

type storedRow struct {
	leaderID string
	record   Record
	version  int64
}

func (e electionRows) read(ctx context.Context) (found foundRows, err error) {
	all, err := e.readRecords(ctx, []string{e.election})
	return all[0], err
}

// scannedRow is a record or leader row as it comes; place tells which.
type scannedRow struct {
	place        int64
	leader, text sql.NullString
	version      int64
}

// add takes in a row; that at the place record is the record.
func (f *foundRows) add(r scannedRow, record int64) {
	s := storedRow{leaderID: r.leader.String, version: r.version}
	switch {
	case s.version < 0:
		f.err = fmt.Errorf("row %d holds the version %d", r.place, s.version)
	case r.place != record:
		f.leader = &s
	default:
		if err := s.record.Scan(r.text.String); err != nil {
			f.err = fmt.Errorf("row %d: %w", r.place, err)
		}
		f.record = &s
	}
}

// merge applies the rules by which the two rows make one Record.
func (f foundRows) merge() *Record {
	record := new(Record)
	if f.record != nil && f.record.version > 0 {
		record = &f.record.record
		record.Version = f.record.version
	}
	written := record.Term // 0 by a member that knows no terms: then the leader row counts them
	if f.leader != nil {
		record.Term = max(written, uint64(f.leader.version))
	}
	if record.LeaderID != "" {
		record.Unguarded = f.leader == nil || f.leader.leaderID != record.LeaderID ||
			written != 0 && uint64(f.leader.version) != written
	}
	return record
}

// update is Storage.Update.
func (e electionRows) update(ctx context.Context, record *Record, isLeaderChanged bool) error {
	change, err := newChange(record, isLeaderChanged)
	if err == nil {
		err = e.usable(ctx)
	}
	return e.apply(ctx, change, err)
}

// updateWithMember is MemberStorage.UpdateWithMember.
func (e electionRows) updateWithMember(ctx context.Context, record *Record, isLeaderChanged bool, before, after *Member) error {
	change, err := newChange(record, isLeaderChanged)
	if err == nil {
		change.member, err = newMemberChange(before, after)
	}
	if err == nil {
		err = e.keepsApart(ctx)
	}
	return e.apply(ctx, change, err)
}

// insert adds a row with the given leader and version, unless it exists.
func (e electionRows) insert(ctx context.Context, tx *sql.Tx, id, slot int, leader string, version int64) error {
	_, err := e.insertRow(ctx, tx, e.row(id, slot), e.newRow(id, slot, leader, version))
	return err
}

func (e electionRows) newRow(id, slot int, leader string, version int64) newRow {
	if e.election == "" {
		return newRow{"id": id, "leader_id": leader, "version": version}
	}
	return newRow{"id": nil, "leader_id": leader, "version": version, "election": e.election, "slot": slot}
}

// rowInsert adds a row that says nothing yet, unless it exists, or the id that was drawn.
func (e electionRows) rowInsert(id, slot int) dialect.Statement {
	return e.insertOf(e.newRow(id, slot, "", 0))
}

// newRow is the row to insert, by column. Where id is nil, it is drawn.
type newRow map[string]any

// insertRow adds a row to the table unless r exists, and reports whether it did.
func (e electionRows) insertRow(ctx context.Context, q sqldb.Execer, r row, values newRow) (bool, error) {
	const draws = 20 // of an id: each finds it taken with a chance of rows / 2³¹
	for range draws {
		query, args := e.insertOf(values).Query()
		n, err := sqldb.Exec(ctx, q, e.sql(query), e.dialect.Args(args...)...)
		if err != nil || n > 0 || values["id"] != nil {
			return n > 0, err
		}
		switch n, err := e.count(ctx, q, r); {
		case err != nil || n > 0:
			return false, err
		}
	}
	return false, fmt.Errorf("no free id for a row of %v", e)
}

func (v newRow) columns() []string { return slices.Sorted(maps.Keys(v)) }

// args are the values in the order of columns, with a new id where it is to be drawn.
func (v newRow) args() (args []any) {
	for _, column := range v.columns() {
		arg := v[column]
		if column == "id" && arg == nil {
			arg = rowID()
		}
		args = append(args, arg)
	}
	return args
}

func (e electionRows) insertOf(values newRow) dialect.Statement {
	columns := values.columns()
	return dialect.Statement{
		Write: e.dialect.InsertNew + " % (" + strings.Join(columns, ", ") + ")", Values: parameters(len(columns)), Args: values.args(),
		Existing: e.dialect.SkipExisting,
	}
}

func (e electionRows) count(ctx context.Context, q sqldb.Execer, r row) (n int64, err error) {
	query, args := e.dialect.Fresh("SELECT COUNT(*) FROM % WHERE "+r.where, r.args...)
	err = q.QueryRowContext(ctx, e.sql(query), args...).Scan(&n)
	return n, err
}

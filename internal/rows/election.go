package rows

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// Election is the rows of one election in its table. It is a value: its methods are safe for concurrent use.
// All is plain SQL, also where a program uses an ORM: one that updates from a struct skips zero values, and
// a resignation would leave the old leader in place.
type Election struct {
	*Table
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

func (e Election) recordRow() row { return e.row(recordRowID, recordSlot) }
func (e Election) leaderRow() row { return e.row(leaderRowID, leaderSlot) }

func (e Election) row(id, slot int) row {
	if e.election == "" {
		return row{"id = ?", []any{id}}
	}
	return row{"election = ? AND slot = ?", []any{e.election, slot}}
}

// Election returns the rows of the election of that name: at most 191 bytes of valid UTF-8 without NUL. Of a
// bad name the error is that of every call.
func (t *Table) Election(name string) Election {
	return Election{Table: t, election: name, invalid: CheckText("election name", name, maxElectionName)}
}

// Named returns the rows of another election of the table, as Table.Election does, and asleep if these are.
func (e Election) Named(name string) Election {
	named := e.Table.Election(name)
	named.asleep = e.asleep
	return named
}

// Asleep returns the same rows, through which nobody is told of changes of leader.
func (e Election) Asleep() Election {
	e.asleep = true
	return e
}

// CheckText accepts what survives a round trip through JSON and through a text
// column of every engine.
func CheckText(field, value string, maxBytes int) error {
	switch {
	case len(value) > maxBytes:
		return fmt.Errorf("%s must be at most %d bytes, has %d", field, maxBytes, len(value))
	case !utf8.ValidString(value):
		return fmt.Errorf("%s must be valid UTF-8", field)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("%s must not contain a NUL byte", field)
	}
	return nil
}

// Scope tells this election from every other one, across all handles, by its table's
// schema too. Some engines fold the case of names, so two that differ in case only share a
// scope, as do two servers that cannot be told apart: a reign held against the wrong one
// is refused, one overlooked is not.
func (e Election) Scope() string {
	return fmt.Sprintf("%s\x00%s\x00%s", e.identity, strings.ToLower(e.quoted), e.election)
}

// String names the election, for messages.
func (e Election) String() string {
	if e.election == "" {
		return fmt.Sprintf("table %q", e.name)
	}
	return fmt.Sprintf("election %q in table %q", e.election, e.name)
}

// usable returns the error that every call on these rows ends with, if any.
func (e Election) usable(ctx context.Context) error {
	if e.invalid != nil || e.election == "" {
		return e.invalid
	}
	if grown, err := e.isGrown(ctx, e.db); err != nil || grown {
		return err
	}
	return e.schemaError(ctx)
}

// Get returns what is stored, read in one statement: two would see two moments. Those who ask at the same
// time may share a statement. While the database is locked it tries again until ctx ends (without a
// deadline, for sqldb.RetryLimit).
func (e Election) Get(ctx context.Context) (Found, error) {
	err := e.usable(ctx)
	var found Found
	if err == nil {
		found, err = e.find(ctx)
	}
	if err == nil {
		err = found.err
	}
	if err != nil {
		return Found{}, e.Reading(err)
	}
	return found, nil
}

// Reading says of err that it came in the way of Get.
func (e Election) Reading(err error) error { return fmt.Errorf("election: read %v: %w", e, err) }

func (e Election) find(ctx context.Context) (found Found, err error) {
	if found, shared, err := e.shared.records.Do(ctx, e.election); shared {
		return found, err
	}
	err = sqldb.Retry(ctx, func() (err error) {
		found, err = e.read(ctx)
		return err
	})
	return found, err
}

func (e Election) read(ctx context.Context) (found Found, err error) {
	all, err := e.readRecords(ctx, []string{e.election})
	return all[0], err
}

// Found is what is stored of one election. A missing row is nil.
type Found struct {
	Record, Leader *Row
	err            error // what is stored cannot be read
}

// Row is a record row, with the record's version, or a leader row, with the term as its version.
type Row struct {
	Place    int64 // its slot, or in the election named "" its id
	LeaderID string
	Text     string
	Version  int64
}

// scannedRow is a Row as it comes.
type scannedRow struct {
	place        int64
	leader, text sql.NullString
	version      int64
}

// add takes in a row; that at the place record is the record.
func (f *Found) add(r scannedRow, record int64) {
	row := &Row{Place: r.place, LeaderID: r.leader.String, Text: r.text.String, Version: r.version}
	switch {
	case row.Version < 0:
		f.err = fmt.Errorf("row %d holds the version %d", row.Place, row.Version)
	case row.Place != record:
		f.Leader = row
	default:
		f.Record = row
	}
}

// insert adds a row with the given leader and version, unless it exists.
func (e Election) insert(ctx context.Context, tx *sql.Tx, id, slot int, leader string, version int64) error {
	_, err := e.insertRow(ctx, tx, e.row(id, slot), e.newRow(id, slot, leader, version))
	return err
}

func (e Election) newRow(id, slot int, leader string, version int64) newRow {
	if e.election == "" {
		return newRow{"id": id, "leader_id": leader, "version": version}
	}
	return newRow{"id": nil, "leader_id": leader, "version": version, "election": e.election, "slot": slot}
}

// rowInsert adds a row that says nothing yet, unless it exists, or the id that was drawn.
func (e Election) rowInsert(id, slot int) dialect.Statement {
	return e.insertOf(e.newRow(id, slot, "", 0))
}

// newRow is the row to insert, by column. Where id is nil, it is drawn.
type newRow map[string]any

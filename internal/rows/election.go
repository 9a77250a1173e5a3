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

// Election is the rows of one election in its table. It is a value, and its methods are safe for
// concurrent use. All statements are plain SQL, also where a program uses an ORM: an ORM that
// updates from a struct skips zero values, and a resignation would leave the old leader in place.
type Election struct {
	*Table
	election string
	invalid  error // what is wrong with the election's name; every call returns it
	asleep   bool  // no wake-ups come through these rows
}

// rowColumns are the columns by which a renewal finds its row, and the columns that it replaces.
var rowColumns = dialect.Columns{ID: "id", Name: "election", Place: "slot", Version: "version", Others: []string{"leader_id", "record"}}

// writtenTexts are the texts that a statement writes into a row. On some engines a session's
// settings may cut or alter a text, so the statement compares what it has stored with these. The
// leader's ID is compared as bytes, because its column in a four-column table may have any
// character set.
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

// Election returns the rows of the election called name. A name has at most 191 bytes of valid
// UTF-8 without NUL. If name breaks this rule, every call on the rows returns an error.
func (t *Table) Election(name string) Election {
	return Election{Table: t, election: name, invalid: CheckText("election name", name, maxElectionName)}
}

// Named returns the rows of another election of the table, as Table.Election does. They are asleep
// if e is.
func (e Election) Named(name string) Election {
	named := e.Table.Election(name)
	named.asleep = e.asleep
	return named
}

// Asleep returns the same rows without wake-ups: Watch returns an error at once. Changes of leader
// that are made through them are announced all the same.
func (e Election) Asleep() Election {
	e.asleep = true
	return e
}

// CheckText returns an error if value would not survive a round trip through JSON and through a
// text column of every engine. The error begins with field.
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

// Scope names this election, with the same text on every handle: the database, the table with its
// schema, and the election's name. Two different elections share a scope if their tables' names
// differ only in case (some engines fold it), or if their servers cannot be told apart. This errs
// on the safe side: a guarded transaction that is held to the wrong election's reign is refused,
// but one whose reign is overlooked would commit.
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

// checkUsable returns an error if every call on these rows must fail: for the election's name, or
// because the table cannot hold named elections. It may ask the database.
func (e Election) checkUsable(ctx context.Context) error {
	if e.invalid != nil || e.election == "" {
		return e.invalid
	}
	if grown, err := e.hasElectionColumns(ctx, e.db); err != nil || grown {
		return err
	}
	return e.schemaError(ctx)
}

// Get returns what is stored. It reads both rows in one statement, because two statements would see
// two moments. Calls at the same time may share a statement. While the database is locked, Get
// tries again until ctx ends; without a deadline in ctx, for sqldb.RetryLimit.
func (e Election) Get(ctx context.Context) (Found, error) {
	err := e.checkUsable(ctx)
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

// Reading wraps err as the error of a Get.
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
	err            error // set if a stored row makes no sense
}

// Row is a record row or a leader row. Version is the record's version, or the term in a leader
// row.
type Row struct {
	Place    int64 // its slot, or in the election named "" its id
	LeaderID string
	Text     string
	Version  int64
}

// scannedRow is a Row as the database returns it.
type scannedRow struct {
	place        int64
	leader, text sql.NullString
	version      int64
}

// add takes in a row that was read. The row at the place record is the record row; any other is the
// leader row.
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

// rowInsert adds an empty row. It adds none if the row exists, or if the id that was drawn is
// taken.
func (e Election) rowInsert(id, slot int) dialect.Statement {
	return e.insertOf(e.newRow(id, slot, "", 0))
}

// newRow is a row to insert, by column. If its id is nil, an id is drawn.
type newRow map[string]any

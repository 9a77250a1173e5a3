// Package rows keeps elections in one table of an SQL database. It knows the columns and every
// statement on them. It speaks of leader IDs, texts, versions and terms. It does not know what a
// text means: the package above does, to which it is the record of an election or the entry of a
// member.
//
//	Table          one table, its engine, and what is known of both
//	Election       the rows of one election: record row, leader row, guard rows, member rows
//	Change         what replaces a record, with the leader row or without
//	MemberChange   what replaces the entry of one member
//
// Every transaction that writes several rows writes them in one order: leader row, guard rows,
// member row, record row.
package rows

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/guard"
	"github.com/sqlelect/election/internal/sqldb"
)

// These are the ids and slots of rows. The record row and the leader row of the election named ""
// have fixed ids, which the four-column version uses too. All other rows are found by election and
// slot. Their ids begin at firstID, out of the way of the four-column version.
const (
	recordRowID = 1
	leaderRowID = 2
	firstID     = 100

	recordSlot  = 0
	leaderSlot  = 1
	firstStripe = 2 // guard rows that some engines' guarded transactions write
	lastStripe  = 99
)

const maxElectionName = 191 // bytes; what a key column holds on every engine

// Columns lists all columns of a row, as an INSERT does.
const Columns = "(id, leader_id, record, version, election, slot)"

var (
	// ErrConflict means that another version is stored. Nothing was written.
	ErrConflict = errors.New("election: record version conflict")
	// ErrSchema means that the table, or a column or key of it, is missing and could not be added.
	ErrSchema = errors.New("election: table schema is incomplete")
)

// Table is one table and what is known about it. All Elections of a Table share it, and so do the
// storages that are derived from one another. Safe for concurrent use.
type Table struct {
	db       *sql.DB
	dialect  *dialect.Dialect
	name     string // as the user gave it
	quoted   string // with its schema, if the engine has schemas
	identity string // of the database
	// grown is set once the columns election and slot are known to exist. While
	// it is not, only the election named "" works.
	grown atomic.Bool
	// led holds, by election, the dialect.Holding that was last acquired through this Table and not
	// released through it.
	led sync.Map
	// removes is set once it is known that this user may remove rows, as a member does when it
	// leaves.
	removes atomic.Bool
	shared  shared
	picture func([]Entry) any
	turns   *guard.Turns // at the engine's one lock for all writers; nil if it has none
	last    *sql.Stmt    // of dialect.Last
}

// Options tell Open about a table.
type Options struct {
	Name     string // of the table
	Identity string // of the database; "" means that the database is asked
	// Picture makes, out of the member rows of one election, the value that AllMembers returns.
	// Callers of AllMembers at the same time share it.
	Picture func([]Entry) any
}

// Open detects the engine, and creates or grows the table if needed, in as few round trips as it
// can. It blocks. Each step may take as long as sqldb.RetryLimit, so Open has no bound of its own
// while steps come to an end.
func Open(db *sql.DB, options Options) (t *Table, err error) {
	if db == nil {
		return nil, errors.New("the database handle must not be nil")
	}
	ctx := context.Background()
	err = sqldb.RetryBadConn(db, func() error {
		conn, err := sqldb.Connect(ctx, db)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // fails if the connection was discarded
		t, err = openOn(ctx, db, conn, options)
		return err
	})
	if err != nil {
		return nil, err
	}
	// The pool may have only one connection, which is free now.
	return t, sqldb.Step(ctx, func(ctx context.Context) error { return t.prepareLast(ctx) })
}

func openOn(ctx context.Context, db *sql.DB, conn *sql.Conn, options Options) (*Table, error) {
	var d *dialect.Dialect
	err := sqldb.Step(ctx, func(ctx context.Context) (err error) {
		if d, err = dialect.DetectOn(ctx, conn); err == nil {
			err = d.Admit(ctx, db, conn)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := d.CheckIdentifier(options.Name); err != nil {
		return nil, fmt.Errorf("table name %w", err)
	}
	t := &Table{db: db, dialect: d, name: options.Name, picture: options.Picture}
	t.share()
	seen, err := sqldb.Ensure(ctx, conn, db, d, t.schema())
	var incomplete *sqldb.MissingError
	switch {
	case err == nil:
		t.grown.Store(true)
	case errors.As(err, &incomplete) && incomplete.Absent:
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	// The four columns are there, and they serve the election named "".
	case errors.As(err, &incomplete):
	default:
		return nil, err
	}
	t.identity, t.quoted = cmp.Or(options.Identity, seen.Identity), sqldb.Qualified(d, seen, t.name)
	if err := t.isOneDatabase(ctx); err != nil {
		return nil, err
	}
	switch {
	case !d.OneWriter:
	// Databases in memory that have no name share an identity, but not a lock.
	case t.identity == dialect.MemoryIdentity(""):
		t.turns = guard.NewTurns()
	default:
		t.turns = guard.TurnsAt(t.identity)
	}
	return t, sqldb.Step(ctx, func(ctx context.Context) error {
		return d.CheckLocks(ctx, db, conn, t.quoted, " (id, leader_id, version) VALUES (?, '', 0)")
	})
}

// isOneDatabase returns an error if each connection of the pool has a database of its own, in
// memory. The caller holds one connection of the pool.
func (t *Table) isOneDatabase(ctx context.Context) error {
	if t.identity != dialect.MemoryIdentity("") || t.db.Stats().MaxOpenConnections == 1 {
		return nil
	}
	return sqldb.Step(ctx, func(ctx context.Context) error {
		other, err := t.db.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = other.Close() }() // fails if the connection has broken
		if _, err := other.ExecContext(ctx, t.sql("SELECT id FROM % LIMIT 0")); err != nil {
			return fmt.Errorf("each connection of the pool has a database of its own in memory: use NewInMemorySQLStorage, or SetMaxOpenConns(1): %w", err)
		}
		return nil
	})
}

// prepareLast prepares the statement last. It is closed once the table is not used any more.
func (t *Table) prepareLast(ctx context.Context) (err error) {
	if t.last, err = t.dialect.Last(ctx, t.db); t.last != nil {
		runtime.AddCleanup(t, func(last *sql.Stmt) { go last.Close() }, t.last) // Close may wait for a connection
	}
	return err
}

// guards returns what runs guarded transactions on the table.
func (t *Table) guards() *guard.Database {
	return &guard.Database{DB: t.db, Dialect: t.dialect, Identity: t.identity, Turns: t.turns, LastStmt: t.last}
}

// Dialect returns the dialect of the table's engine.
func (t *Table) Dialect() *dialect.Dialect { return t.dialect }

// schema is the table with all its columns: the four of the four-column version, and the two that
// tell elections apart.
func (t *Table) schema() sqldb.Table {
	types := t.dialect.Types
	return sqldb.Table{
		Name: t.name,
		Columns: []sqldb.Column{
			{Name: "id", Type: types.Integer + " NOT NULL"},
			{Name: "leader_id", Type: types.Text + " NOT NULL"},
			{Name: "record", Type: types.Long},
			{Name: "version", Type: types.Integer + " NOT NULL"},
			{Name: "election", Type: types.Name, Added: true},
			{Name: "slot", Type: types.Integer, Added: true},
		},
		Unique: []sqldb.Unique{{Suffix: "_election_slot", Columns: []string{"election", "slot"}}},
	}
}

// hasElectionColumns reports whether the table has all columns. As long as it lacks some, it
// asks the database each time: a member that may alter the table can have come since, and its guard
// rows count from then on.
func (t *Table) hasElectionColumns(ctx context.Context, q sqldb.Execer) (bool, error) {
	if t.grown.Load() {
		return true, nil
	}
	missing, err := sqldb.Missing(ctx, q, t.dialect, t.schema())
	if err != nil {
		return false, err
	}
	if len(missing) > 0 {
		return false, nil
	}
	t.grown.Store(true)
	return true, nil
}

// write runs statement, which writes rows. It tries again as sqldb.Retry does.
func (t *Table) write(ctx context.Context, statement func(q sqldb.Execer) error) error {
	return t.turns.Own(func() error {
		return sqldb.Retry(ctx, func() error { return sqldb.OnConn(ctx, t.db, t.dialect, statement) })
	})
}

// checkDeleteRight returns an error wrapping errors.ErrUnsupported if this user may not remove rows
// from the table. It tries that with a row that does not exist.
func (t *Table) checkDeleteRight(ctx context.Context) error {
	if t.removes.Load() {
		return nil
	}
	err := sqldb.OnConn(ctx, t.db, t.dialect, func(q sqldb.Execer) error {
		_, err := q.ExecContext(ctx, t.sql("DELETE FROM % WHERE id = ?"), t.dialect.Args(-1)...) // no row has this id
		return err
	})
	switch dialect.Classify(err) {
	case dialect.Unknown:
		if err != nil {
			return err
		}
		t.removes.Store(true)
		return nil
	case dialect.Fatal:
		return fmt.Errorf("%w: the right to DELETE from table %q is missing: %w", errors.ErrUnsupported, t.name, err)
	}
	return err
}

// schemaError says which SQL makes named elections possible.
func (t *Table) schemaError(ctx context.Context) error {
	missing, err := sqldb.Missing(ctx, t.db, t.dialect, t.schema())
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: named elections need more columns in table %q; run: %s",
		ErrSchema, t.name, strings.Join(missing, "; "))
}

// NewID draws an id for a row that is found by election and slot. If another row has the id, the
// caller finds out and draws again.
func NewID() int64 { return firstID + rand.Int64N(math.MaxInt32-firstID) }

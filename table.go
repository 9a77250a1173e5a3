package election

import (
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

// Where things stand in the table. The election named "" uses fixed ids, which
// members that know only four columns use too; all others are found by name and
// slot, and their rows have ids out of those members' way.
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

// electionTable is one table and all that is known about it. Storages on it,
// for any number of elections, share one.
type electionTable struct {
	db       *sql.DB
	dialect  *dialect.Dialect
	name     string // as the user gave it
	quoted   string // with its schema, where the engine has these
	identity string // of the database
	// grown is set once the columns election and slot are known to exist. While
	// it is not, only the election named "" works.
	grown atomic.Bool
	// led holds, by election, the Reign that was last acquired through this table
	// and not released through it.
	led sync.Map
	// removes is set once rows are known to be this user's to remove, as those of
	// members that leave have to be.
	removes atomic.Bool
	shared  shared
	turns   *guard.Turns // at the one lock for all that write, where there is one
	last    *sql.Stmt    // of dialect.Last
}

// openTable detects the engine, and creates or grows the table where needed, in as few
// round trips as that takes. Each of them may take as long as sqldb.RetryLimit: so it goes
// on for as long as it comes on.
func openTable(db *sql.DB, name string) (t *electionTable, err error) {
	if name == "" {
		name = TableNameElection
	}
	ctx := context.Background()
	err = sqldb.OnLiveConn(db, func() error {
		conn, err := sqldb.Connect(ctx, db)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // fails for one that was used up
		t, err = openTableOn(ctx, db, conn, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	// The pool may have one connection only, which is free now.
	return t, sqldb.Step(ctx, func(ctx context.Context) error { return t.prepareLast(ctx) })
}

func openTableOn(ctx context.Context, db *sql.DB, conn *sql.Conn, name string) (*electionTable, error) {
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
	if err := d.CheckIdentifier(name); err != nil {
		return nil, fmt.Errorf("table name %w", err)
	}
	t := &electionTable{db: db, dialect: d, name: name}
	t.share()
	if d.OneWriter {
		t.turns = guard.NewTurns()
	}
	seen, err := sqldb.Ensure(ctx, conn, db, d, t.schema())
	var incomplete *sqldb.MissingError
	switch {
	case err == nil:
		t.grown.Store(true)
	case errors.As(err, &incomplete) && incomplete.Absent:
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	case errors.As(err, &incomplete): // four columns are there and serve the election named ""
	default:
		return nil, err
	}
	t.identity, t.quoted = seen.Identity, sqldb.Qualified(d, seen, name)
	return t, sqldb.Step(ctx, func(ctx context.Context) error {
		return d.CheckLocks(ctx, db, conn, t.quoted, " (id, leader_id, version) VALUES (?, '', 0)")
	})
}

// prepareLast prepares a statement that goes when the table is not used any more.
func (t *electionTable) prepareLast(ctx context.Context) (err error) {
	if t.last, err = t.dialect.Last(ctx, t.db); t.last != nil {
		runtime.AddCleanup(t, func(last *sql.Stmt) { go last.Close() }, t.last) // which may wait for a connection
	}
	return err
}

// guards runs guarded transactions on the table.
func (t *electionTable) guards() *guard.Database {
	return &guard.Database{DB: t.db, Dialect: t.dialect, Identity: t.identity, Turns: t.turns, Last: t.last}
}

// schema is DO's columns and those that tell elections apart.
func (t *electionTable) schema() sqldb.Table {
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

// isGrown looks again where it has to: a member that may alter the table can
// have come since, and its guard rows count from then on.
func (t *electionTable) isGrown(ctx context.Context, q sqldb.Execer) (bool, error) {
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
func (t *electionTable) write(ctx context.Context, statement func(q sqldb.Execer) error) error {
	return t.turns.Own(func() error {
		return sqldb.Retry(ctx, func() error { return sqldb.OnConn(ctx, t.db, t.dialect, statement) })
	})
}

// mayRemove returns an error wrapping errors.ErrUnsupported when rows cannot be
// removed from the table.
func (t *electionTable) mayRemove(ctx context.Context) error {
	if t.removes.Load() {
		return nil
	}
	err := sqldb.OnConn(ctx, t.db, t.dialect, func(q sqldb.Execer) error {
		_, err := q.ExecContext(ctx, t.sql("DELETE FROM % WHERE id = ?"), t.dialect.Args(-1)...) // which there is not
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
func (t *electionTable) schemaError(ctx context.Context) error {
	missing, err := sqldb.Missing(ctx, t.db, t.dialect, t.schema())
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: named elections need more columns in table %q; run: %s",
		ErrSchema, t.name, strings.Join(missing, "; "))
}

// sql fills the table's name in for % and the engine's placeholders for ?.
func (t *electionTable) sql(query string) string {
	return strings.Replace(t.dialect.Rebind(query), "%", t.quoted, 1)
}

// rowID draws the id of a new row of a named election. A clash with another
// row is found by looking, and drawn again.
func rowID() int64 { return firstID + rand.Int64N(math.MaxInt32-firstID) }

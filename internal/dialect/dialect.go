// Package dialect is the one place where databases differ. A Dialect is a set
// of facts (how to quote, which column types, what an error code means) plus the
// one thing that is a protocol rather than a fact: how a guarded transaction is
// kept from ending unnoticed ([Fence]). Statements are written where they are
// used, out of these facts.
package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Dialect holds the facts about one database engine. It is immutable.
type Dialect struct {
	// Name is the engine's name in messages.
	Name string
	// MaxIdentifier is the longest identifier in bytes.
	MaxIdentifier int
	// Types are the column types for CREATE TABLE.
	Types Types
	// InsertNew begins and SkipExisting ends an INSERT that does nothing where a
	// row with the same key exists; RowsAffected is then 0.
	InsertNew, SkipExisting string
	// BoundedWrite and BoundedDDL, put before a statement, bound how long it waits
	// for locks on the server, also when its client has gone meanwhile.
	BoundedWrite, BoundedDDL string
	// Isolation is the level for transactions that first wait and then look.
	Isolation sql.IsolationLevel
	// TableOptions ends a CREATE TABLE.
	TableOptions string
	// KeysInTable: a CREATE TABLE takes the table's unique keys, too, at no round trip more.
	KeysInTable bool
	// Schema, where it is not "", is the one in which all tables of elections stand.
	Schema string
	// UpdateMany goes on a WITH renewal, a relation of new rows. It finds each of them in a quoted table
	// by its name and place, and replaces it if its version is still what the renewal's column "was"
	// says. It returns the name and place of each row that it has replaced, and passes over rows that are
	// locked. Nil: no statement can tell which rows it has changed.
	UpdateMany func(table string, c Columns) string
	// RingsItself: changes of leader are pushed to listeners by their transaction.
	RingsItself bool
	// Stripes is how many guard stripes an election has: rows that change with the
	// leader row, of which a guarded transaction writes one. 0: it locks the leader
	// row.
	Stripes int
	// Savepoint, where it is not "", is to be set when a transaction begins and released
	// before it is committed: the release fails, with class Retry by way of Torn, if the
	// transaction has ended meanwhile and nobody was told.
	Savepoint string
	// OneWriter: there is one lock for all that write, it has no queue, and whoever asks more
	// often gets it.
	OneWriter bool
	// Examination asks whether a database is fit for elections.
	Examination Examination

	written     func(id string, number int64, texts []Text) (expression string, args []any) // nil: a session keeps what it is given
	inlineReads bool                                                                        // what Fresh returns is one text: parameters would cost a round trip
	freshRead   string                                                                      // and begins so
	quote       string
	checkName   func(string) error // nil: no rules of its own
	placeholder func(n int) string
	byteEqual   func(column, placeholder string) string
	classify    func(error) Class
	rolledBack  func(error) bool
	look        string // see Look
	identity    func(database string) (string, error)
	direct      bool // the driver's connections take pgx's options, see Args
	unsure      bool // its name says too little, see CheckLocks
	admit       func(ctx context.Context, db *sql.DB, conn *sql.Conn) error
	fence       func(ctx context.Context, conn *sql.Conn, identity string) (Fence, error)
	hold        func(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error)
	last        string // see Last
	prepare     func(ctx context.Context, conn *sql.Conn, wait time.Duration) (restore func() error, err error)
	hasten      func(ctx context.Context, conn *sql.Conn) (restore func() error, err error)
	listen      func(ctx context.Context, db *sql.DB, conn *sql.Conn) (Listener, error)
	holdingLock func(Subject, Holding) HoldingLock
	bounds      func(wait time.Duration) string
	gate        func(ctx context.Context, tx *sql.Tx, table, name string, wait time.Duration) error
	transact    func(context.Context, *sql.Conn, Transaction) error
}

// Types are column types, each able to hold what its name says on every row.
type Types struct {
	Integer string // 64 bits, signed
	Text    string // at most 255 bytes, comparable
	Name    string // at most 191 bytes, compared byte for byte, usable in a key
	Long    string // text of any length up to the engine's limit, at least 1 MB
}

// Columns are those of a table whose rows are found by a name and an integer place.
type Columns struct {
	ID, Name, Place, Version string
	Others                   []string // that a new row replaces, beside its version
}

// assignments of the columns that a new row replaces, out of r.
func (c Columns) assignments() string {
	set := c.Version + " = r." + c.Version
	for _, column := range c.Others {
		set += ", " + column + " = r." + column
	}
	return set
}

// Quote quotes name as one identifier, whatever characters it holds.
func (d *Dialect) Quote(name string) string {
	return d.quote + strings.ReplaceAll(name, d.quote, d.quote+d.quote) + d.quote
}

// Table quotes the name of a table, with its schema where that is the same for all.
func (d *Dialect) Table(name string) string {
	if d.Schema == "" {
		return d.Quote(name)
	}
	return d.Quote(d.Schema) + "." + d.Quote(name)
}

// CheckIdentifier returns an error naming the rule that name breaks, if any.
func (d *Dialect) CheckIdentifier(name string) error {
	switch {
	case name == "":
		return errors.New("must not be empty")
	case len(name) > d.MaxIdentifier:
		return fmt.Errorf("must be at most %d bytes on %s, has %d", d.MaxIdentifier, d.Name, len(name))
	case !utf8.ValidString(name):
		return errors.New("must be valid UTF-8")
	case strings.ContainsRune(name, 0):
		return errors.New("must not contain a NUL byte")
	case d.checkName != nil:
		return d.checkName(name)
	}
	return nil
}

// Rebind rewrites the question marks of query, which must not stand inside
// literals or quoted names, into the engine's placeholders.
func (d *Dialect) Rebind(query string) string {
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString(d.placeholder(n))
		query = after
	}
}

// Fresh is a SELECT, with question marks for args, that sees all that was committed
// before, through whatever node. What it returns may hold no question mark any more.
func (d *Dialect) Fresh(query string, args ...any) (string, []any) {
	if !d.inlineReads {
		return query, d.Args(args...)
	}
	return d.freshRead + inline(query, args, mysqlLiteral), nil
}

// Args are the arguments of a statement that is to take one round trip, also on a
// connection that has not seen it before.
func (d *Dialect) Args(args ...any) []any {
	if !d.direct {
		return args
	}
	return append([]any{pgx.QueryExecModeExec}, args...)
}

// ByteEqual is a condition that holds when column equals the argument byte for
// byte, whatever the column's collation.
func (d *Dialect) ByteEqual(column string) string { return d.byteEqual(column, "?") }

// Text is what a column of a row is to hold.
type Text struct {
	Column string
	Value  any
	Bytes  bool // it holds bytes, in whatever character set the session is
}

// Written is an expression, with question marks for args, for a number in a row that is written, whose
// key is the integer column id. The texts must be assigned before it in the same statement. Where
// a session may cut a value that has no room in its column, or replace characters that
// have none, the statement fails then, and NoRoom is true of its error.
func (d *Dialect) Written(id string, number int64, texts ...Text) (expression string, args []any) {
	if d.written == nil {
		return "?", []any{number}
	}
	return d.written(id, number, texts)
}

// RolledBack reports whether err, returned by COMMIT, says for certain that
// nothing of the transaction was or will be applied.
func (d *Dialect) RolledBack(err error) bool { return d.rolledBack(err) }

// Hasten makes the waits of conn's statements for locks short, where the session's own
// settings may make them long. Restore, to be called also after an error, undoes that. If it fails, conn is not
// for the pool any more: see Discard, which waits for a transaction that is open on it.
func (d *Dialect) Hasten(ctx context.Context, conn *sql.Conn) (restore func() error, err error) {
	if d.hasten == nil {
		return func() error { return nil }, nil
	}
	return d.hasten(ctx, conn)
}

// Admit returns an error if db, of which conn is a connection, must not be used beside
// another handle of this process.
func (d *Dialect) Admit(ctx context.Context, db *sql.DB, conn *sql.Conn) error {
	if d.admit == nil {
		return nil
	}
	return d.admit(ctx, db, conn)
}

// Fence prepares conn, to the database of that identity, for one guarded
// transaction. It runs no statement where the engine can do without.
func (d *Dialect) Fence(ctx context.Context, conn *sql.Conn, identity string) (Fence, error) {
	return d.fence(ctx, conn, identity)
}

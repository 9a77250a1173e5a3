// Package dialect is the one place where databases differ. A Dialect is a set of facts: how to
// quote, which column types, what an error code means. One part is a protocol and not a fact: how a
// guarded transaction is kept from ending unnoticed ([Fence]). Statements are composed of these
// facts in the packages that use them.
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
	// InsertNew begins and SkipExisting ends an INSERT that does nothing if a row with the same key
	// exists. RowsAffected is 0 then.
	InsertNew, SkipExisting string
	// BoundedWrite and BoundedDDL are put before a statement. They bound how long it waits for
	// locks on the server, even if its client has gone meanwhile.
	BoundedWrite, BoundedDDL string
	// Isolation is the level for transactions that first wait for a lock and then read.
	Isolation sql.IsolationLevel
	// TableOptions ends a CREATE TABLE.
	TableOptions string
	// KeysInTable: CREATE TABLE creates the table's unique keys too, which saves round trips.
	KeysInTable bool
	// Schema is the one schema of all election tables. "": a table's name needs no such schema.
	Schema string
	// UpdateMany returns an UPDATE that continues a statement beginning with WITH renewal. Renewal
	// is a relation of new rows. The UPDATE finds each of their rows in the quoted table by its
	// name and place. It replaces the row if the row's version still equals the column "was" of the
	// renewal. It passes over locked rows. It returns the name and place of each replaced row. Nil:
	// no statement of the engine can tell which rows it has changed.
	UpdateMany func(table string, c Columns) string
	// NotifiesInTransaction: the transaction of a change of leader itself notifies the listeners.
	NotifiesInTransaction bool
	// Stripes is the number of guard stripes of an election. Guard stripes are rows that change
	// with the leader row; a guarded transaction writes one of them. 0: a guarded transaction locks
	// the leader row.
	Stripes int
	// Savepoint names a savepoint, for an engine that may roll a transaction back without an error.
	// It is set when a transaction begins and released before the COMMIT. If the transaction has
	// ended meanwhile, the release fails, and TransactionLost gives its error the class Retry. "": not needed.
	Savepoint string
	// OneWriter: all writers share one lock. The lock has no queue: the process that asks more
	// often gets it.
	OneWriter bool
	// Examination asks whether a database is fit for elections.
	Examination Examination

	written     func(id string, number int64, texts []Text) (expression string, args []any) // nil: a session stores values as they are given
	inlineReads bool                                                                        // LinearizableSelect writes its arguments into the text: parameters would cost a round trip
	readPrefix  string                                                                      // with inlineReads, the text of LinearizableSelect begins with this
	quote       string
	checkName   func(string) error // nil: the engine has no further rules
	placeholder func(n int) string
	byteEqual   func(column, placeholder string) string
	classify    func(error) Class
	rolledBack  func(error) bool
	look        string // see Look
	identity    func(database string) (string, error)
	direct      bool // the driver's connections take pgx's options, see Args
	unsure      bool // the reported version may be another engine's, see CheckLocks
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
	transact    func(context.Context, *sql.Conn, BatchedChange) error
}

// Types are column types. On every engine each can hold the values that its line describes.
type Types struct {
	Integer string // 64 bits, signed
	Text    string // at most 255 bytes, comparable
	Name    string // at most 191 bytes, compared byte for byte, usable in a key
	Long    string // text of any length up to the engine's limit, at least 1 MB
}

// Columns names the columns of a table whose rows are found by a name and an integer place.
type Columns struct {
	ID, Name, Place, Version string
	Others                   []string // further columns that a new row replaces, beside Version
}

// assignments is a SET list: each column that a new row replaces gets its value from r.
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

// Table quotes the name of a table, with d.Schema before it if that is not empty.
func (d *Dialect) Table(name string) string {
	if d.Schema == "" {
		return d.Quote(name)
	}
	return d.Quote(d.Schema) + "." + d.Quote(name)
}

// CheckIdentifier returns an error that names the rule which name breaks, or nil.
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

// Rebind replaces the question marks of query by the engine's placeholders. No question mark may
// stand inside a literal or a quoted name.
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

// LinearizableSelect returns a SELECT, and its arguments, that sees everything committed before,
// even through another node. Query has question marks for args. The returned text may have the
// values in their place.
func (d *Dialect) LinearizableSelect(query string, args ...any) (string, []any) {
	if !d.inlineReads {
		return query, d.Args(args...)
	}
	return d.readPrefix + inline(query, args, mysqlLiteral), nil
}

// Args returns args, completed for a statement that takes one round trip even on a connection that
// has not seen it before.
func (d *Dialect) Args(args ...any) []any {
	if !d.direct {
		return args
	}
	return append([]any{pgx.QueryExecModeExec}, args...)
}

// ByteEqual is a condition that holds when column equals the argument byte for
// byte, whatever the column's collation.
func (d *Dialect) ByteEqual(column string) string { return d.byteEqual(column, "?") }

// Text is a value that a column of a row shall hold.
type Text struct {
	Column string
	Value  any
	Bytes  bool // the column holds bytes: the session's character set does not matter
}

// Written returns an expression for a number that a statement writes into a row, with question
// marks for args. The row's key is the integer column id. The statement must assign the texts
// before the number. Some sessions cut a value that is too long for its column, or replace
// characters that the column cannot hold. On such an engine the expression then makes the statement
// fail, and NoRoom is true of the error.
func (d *Dialect) Written(id string, number int64, texts ...Text) (expression string, args []any) {
	if d.written == nil {
		return "?", []any{number}
	}
	return d.written(id, number, texts)
}

// RolledBack reports whether err, returned by COMMIT, says for certain that
// nothing of the transaction was or will be applied.
func (d *Dialect) RolledBack(err error) bool { return d.rolledBack(err) }

// Hasten shortens the waits of conn's statements for locks, on an engine whose session settings may
// make them long. The caller calls restore to undo this, even after an error. If restore fails,
// conn must not return to the pool: the caller passes it to Discard, which waits for an open
// transaction on it.
func (d *Dialect) Hasten(ctx context.Context, conn *sql.Conn) (restore func() error, err error) {
	if d.hasten == nil {
		return func() error { return nil }, nil
	}
	return d.hasten(ctx, conn)
}

// Admit returns an error if this process has another handle beside which db must not be used. Conn
// is a connection of db.
func (d *Dialect) Admit(ctx context.Context, db *sql.DB, conn *sql.Conn) error {
	if d.admit == nil {
		return nil
	}
	return d.admit(ctx, db, conn)
}

// Fence prepares conn for one guarded transaction. Identity is that of conn's database. Fence sends
// a statement only if the engine needs one.
func (d *Dialect) Fence(ctx context.Context, conn *sql.Conn, identity string) (Fence, error) {
	return d.fence(ctx, conn, identity)
}

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
	// ColumnsOf lists the column names of the table given as its one argument,
	// and nothing when there is no such table.
	ColumnsOf string
	// TableOptions ends a CREATE TABLE.
	TableOptions string
	// SchemaOf names the schema of the table given as its one argument; "" where
	// a table's name needs none.
	SchemaOf string
	// UnfitSession and UnfitTable, which takes a table's name, return what keeps
	// elections from working as a sentence, or NULL, or nothing; "" where nothing
	// can.
	UnfitSession, UnfitTable string
	// UpdateMany goes on a WITH renewal (election, slot, was, version, leader_id, record)
	// and replaces those rows of a quoted table that still have the version was. It
	// returns election and slot of each, and passes over rows that are locked; nil where
	// no statement can tell which rows it has changed.
	UpdateMany func(table string) string
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
	// UniqueOf lists (index name, column) of the unique, unconditional indexes of
	// the table given as its one argument, in key order.
	UniqueOf string
	// Examination asks whether a database is fit for elections.
	Examination Examination

	inlineReads bool   // what Fresh returns is one text: parameters would cost a round trip
	freshRead   string // and begins so
	quote       string
	checkName   func(string) error // nil: no rules of its own
	placeholder func(n int) string
	byteEqual   func(column, placeholder string) string
	classify    func(error) Class
	rolledBack  func(error) bool
	identity    func(context.Context, *sql.DB) (string, error)
	fence       func(ctx context.Context, conn *sql.Conn, identity string) (Fence, error)
	last        string // see Last
	prepare     func(ctx context.Context, conn *sql.Conn, wait time.Duration) (restore func() error, err error)
	listen      func(ctx context.Context, db *sql.DB, conn *sql.Conn) (Listener, error)
	reignLock   func(Subject, Reign) ReignLock
	bounds      func(wait time.Duration) string
	gate        func(ctx context.Context, tx *sql.Tx, table, election string, wait time.Duration) error
	transact    func(context.Context, *sql.Conn, Transaction) error
}

// Types are column types, each able to hold what its name says on every row.
type Types struct {
	Integer string // 64 bits, signed
	Text    string // at most 255 bytes, comparable
	Name    string // at most 191 bytes, compared byte for byte, usable in a key
	Long    string // text of any length up to the engine's limit, at least 1 MB
}

// Quote quotes name as one identifier, whatever characters it holds.
func (d *Dialect) Quote(name string) string {
	return d.quote + strings.ReplaceAll(name, d.quote, d.quote+d.quote) + d.quote
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
		return query, args
	}
	return d.freshRead + inline(query, args, mysqlLiteral), nil
}

// ByteEqual is a condition that holds when column equals the argument byte for
// byte, whatever the column's collation.
func (d *Dialect) ByteEqual(column string) string { return d.byteEqual(column, "?") }

// RolledBack reports whether err, returned by COMMIT, says for certain that
// nothing of the transaction was or will be applied.
func (d *Dialect) RolledBack(err error) bool { return d.rolledBack(err) }

// Identity names the database behind db: equal for all handles on one
// database. Databases that cannot be told apart share an identity.
func (d *Dialect) Identity(ctx context.Context, db *sql.DB) (string, error) {
	return d.identity(ctx, db)
}

// Fence prepares conn, to the database of that identity, for one guarded
// transaction. It runs no statement where the engine can do without.
func (d *Dialect) Fence(ctx context.Context, conn *sql.Conn, identity string) (Fence, error) {
	return d.fence(ctx, conn, identity)
}

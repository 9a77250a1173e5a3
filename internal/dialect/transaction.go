package dialect

import (
	"context"
	"database/sql"
	"slices"
)

// Statement writes rows of one table: SQL with question marks for its arguments, each an
// int, an int64 or a string, and a % for the quoted table.
type Statement struct {
	Write string // UPDATE or DELETE, without its condition; of an INSERT, what precedes VALUES
	Args  []any  // of Write and Values
	// Values lists what an INSERT writes, without brackets; Existing says what it does where
	// the row exists.
	Values, Existing string
	Where            string // the condition; of an INSERT that has Missed, of the row that it adds
	Rows             []any  // the arguments of Where
	// Missed is the error if it finds no row; nil: it need not find any.
	Missed error
}

// Query is all of the statement, and its arguments.
func (s Statement) Query() (query string, args []any) {
	if s.Values != "" {
		return s.Write + " VALUES (" + s.Values + ") " + s.Existing, s.Args
	}
	return s.Write + " WHERE " + s.Where, append(slices.Clip(s.Args), s.Rows...)
}

// Transaction changes what is claimed under a name, by statements that are all known before it begins.
type Transaction struct {
	Table      string      // quoted
	Name       string      // as in Claim
	Statements []Statement // that write rows
}

// Transact runs t on a pinned connection, in one round trip: between BEGIN and COMMIT the
// server waits neither for the client nor for a guarded transaction. So what a client has
// sent that gives up or dies is committed about then or never (a renewal or, at COMMIT, a
// backup may hold it up for a moment); if a guarded transaction is in the way, the error is of class Retry, at once. If
// a statement finds no row, its error Missed is returned. Of all these, and of one that wraps
// errors.ErrUnsupported, as this connection cannot do so, nothing is committed;
// driver.ErrBadConn means that the connection was dead already. What any other
// error says of the outcome is for its class to tell. Afterwards the connection is
// as it was, or closed.
func (d *Dialect) Transact(ctx context.Context, conn *sql.Conn, t Transaction) error {
	return d.transact(ctx, conn, t)
}

// Transacts reports whether Transact can be called.
func (d *Dialect) Transacts() bool { return d.transact != nil }

package dialect

import (
	"context"
	"database/sql"
	"slices"
)

// Statement writes rows of one table. Its SQL has question marks for the arguments and a % for the
// quoted table. Each argument is an int, an int64 or a string.
type Statement struct {
	Write string // UPDATE or DELETE without its condition; INSERT up to VALUES
	Args  []any  // the arguments of Write and Values
	// Values lists the values of an INSERT, without brackets. Existing says what the INSERT does if
	// the row exists.
	Values, Existing string
	Where            string // the condition; for an INSERT with IfNoRow, it selects the row that is added
	Rows             []any  // the arguments of Where
	// IfNoRow is the error if the statement finds, or adds, no row. Nil: it need not do so.
	IfNoRow error
}

// Query returns the whole statement and its arguments.
func (s Statement) Query() (query string, args []any) {
	if s.Values != "" {
		return s.Write + " VALUES (" + s.Values + ") " + s.Existing, s.Args
	}
	return s.Write + " WHERE " + s.Where, append(slices.Clip(s.Args), s.Rows...)
}

// BatchedChange changes what is claimed under a name, by statements that are all known before it
// begins.
type BatchedChange struct {
	Table      string      // quoted
	Name       string      // as in Claim
	Statements []Statement // that write rows
}

// ChangeInOneTrip runs t on a pinned connection, in one round trip. Between BEGIN and COMMIT the
// server waits neither for the client nor for a guarded transaction. So even if the client gives up
// or dies, the change is committed at about that time or never. (A renewal, or a backup at COMMIT,
// may hold it up for a moment.) In these cases nothing is committed:
//
//   - A guarded transaction is in the way: an error of class Retry, at once.
//   - A statement finds no row: its error IfNoRow.
//   - This connection cannot do it in one round trip: an error that wraps errors.ErrUnsupported.
//   - The connection was dead already: driver.ErrBadConn.
//
// For any other error, its class tells what is known of the outcome. Afterwards the connection is
// as it was, or closed.
func (d *Dialect) ChangeInOneTrip(ctx context.Context, conn *sql.Conn, t BatchedChange) error {
	return d.transact(ctx, conn, t)
}

// ChangesInOneTrip reports whether ChangeInOneTrip can be called.
func (d *Dialect) ChangesInOneTrip() bool { return d.transact != nil }

package dialect

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
)

// Class is what a database error means for the caller that sent the statement.
type Class int

const (
	// Unknown: no engine's table lists the error.
	Unknown Class = iota
	// Conflict: a row with this key exists.
	Conflict
	// Retry: the transaction lost against another one, or the server could not take it yet. Once it
	// is rolled back, nothing of it is applied, and all of it may be run again.
	Retry
	// Cut: a time limit or another session ended the statement or the transaction. Nothing of it is
	// applied. If it is run again, it may end the same way.
	Cut
	// Ambiguous: a write or COMMIT that failed with this error may have been applied.
	Ambiguous
	// Unusable: the SQLite file cannot be written at present.
	Unusable
	// Elsewhere: this server takes no writes; another server takes them now. A pooled connection to
	// this server must be closed, so that the next connection leads to the other server.
	Elsewhere
	// Stale: like Fatal, unless the connection remembers an old schema and could not read it again
	// at that moment. A statement that is known to be right is worth a few more attempts.
	Stale
	// Fatal: the statement or the schema is at fault. A second attempt would fail again.
	Fatal
)

// String returns the class's name.
func (c Class) String() string {
	switch c {
	case Conflict:
		return "conflict"
	case Retry:
		return "retry"
	case Cut:
		return "cut"
	case Ambiguous:
		return "ambiguous"
	case Unusable:
		return "unusable"
	case Elsewhere:
		return "elsewhere"
	case Stale:
		return "stale"
	case Fatal:
		return "fatal"
	}
	return "unknown"
}

// Undone reports whether nothing is applied of a transaction that failed with class c. The library
// may then run a transaction of its own once more: its transactions are short and mostly wait for
// locks.
func (c Class) Undone() bool { return c == Retry || c == Cut }

// Classify returns the class of err. It need not know the engine: every driver has an error type of
// its own.
func Classify(err error) Class {
	if errors.Is(err, errTransactionLost) || errors.Is(err, errGateShut) || errors.Is(err, errQueueFull) {
		return Retry
	}
	if errors.Is(err, errStandby) {
		return Elsewhere
	}
	for _, d := range engines() {
		if class := d.classify(err); class != Unknown {
			return class
		}
	}
	return classifyTransport(err) // last: a server's own error says more than how the call ended
}

// classifyTransport classifies the errors that the drivers of all engines return when the
// connection or the ctx ends during a statement.
func classifyTransport(err error) Class {
	for _, lost := range []error{driver.ErrBadConn, io.EOF, io.ErrUnexpectedEOF, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, lost) {
			return Ambiguous
		}
	}
	if mysqlLostConn(err) {
		return Ambiguous
	}
	return Unknown
}

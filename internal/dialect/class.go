package dialect

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
)

// Class is what a database error means for whoever sent the statement.
type Class int

const (
	// Unknown: not an error that any engine's table lists.
	Unknown Class = iota
	// Conflict: a row with this key exists.
	Conflict
	// Retry: lost against another transaction; nothing of this one is applied
	// once it is rolled back, and the whole of it may be run again.
	Retry
	// Cut: a bound in time or the word of another session ended the statement or the
	// transaction. Nothing of it is applied, but run again it may end so again.
	Cut
	// Ambiguous: a write or COMMIT that failed so may have been applied.
	Ambiguous
	// Unusable: this file cannot be written at present.
	Unusable
	// Elsewhere: this server takes no writes, as another one does now. A pooled
	// connection to it is to be closed, so that the next one leads to the other.
	Elsewhere
	// Stale: as Fatal, unless the connection remembers an old schema and could
	// not look again just then: worth a few more attempts of a statement that is
	// known to be right.
	Stale
	// Fatal: the statement or the schema is at fault; again would fail again.
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

// Undone reports whether nothing of a whole transaction that failed so is applied, so
// that the library may run its own once more: these are short and mostly wait for locks.
func (c Class) Undone() bool { return c == Retry || c == Cut }

// Classify tells what err means, without knowing which engine it came from:
// every driver has an error type of its own.
func Classify(err error) Class {
	if errors.Is(err, errTorn) || errors.Is(err, errGateShut) || errors.Is(err, errQueueFull) {
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
	return classifyTransport(err) // last: a server's own word says more than how the call ended
}

// classifyTransport covers what drivers of every engine return when the
// connection or the ctx ended under a statement.
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

package election

import (
	"errors"
	"fmt"

	"github.com/sqlelect/election/internal/guard"
	"github.com/sqlelect/election/internal/rows"
)

// Errors of a Storage.
var (
	// ErrRecordConflict is returned by Storage.Update when another version is
	// stored. Nothing was written; read again and decide anew.
	ErrRecordConflict = rows.ErrConflict
	// ErrSchema is returned when the table lacks a column or key that the call
	// needs and the user may not add it. The error's text holds the SQL to run.
	ErrSchema = rows.ErrSchema
)

// Errors of TxnWithLeaderLock.
var (
	// ErrNotLeader means that the member does not lead, or not in the term that
	// the ctx carries. Nothing was committed; running it again is useless until
	// the member leads again. Also returned by TransferLeader on a follower.
	ErrNotLeader = errors.New("election: not the leader")
	// ErrOutcomeUnknown means that COMMIT was sent and failed: the transaction
	// may or may not have been committed.
	ErrOutcomeUnknown = guard.ErrOutcomeUnknown
	// ErrTxnEnded means that the guarded transaction ended inside fn (fn ended
	// it, or the database did and fn swallowed the error). Nothing was committed
	// outside the guard.
	ErrTxnEnded = guard.ErrTxnEnded
)

// Errors of RunElection, ResignLeader and TransferLeader.
var (
	// ErrDuplicateMember means that another live process runs with the same ID: also a
	// copy of this one, such as a snapshot of its machine that was resumed beside it.
	ErrDuplicateMember = errors.New("election: another live process has the same member ID")
	// ErrCallbackOverrun means that a LeaderCallback did not return within
	// StopTimeout after its ctx ended. It may still be running.
	ErrCallbackOverrun = errors.New("election: leader callback did not return in time")
	// ErrUnknownMember means that TransferLeader's target cannot take over: it
	// is not a live member, or it declines to campaign at present.
	ErrUnknownMember = errors.New("election: no such member to take over")
	// ErrAlreadyRun is returned by a second RunElection or Run on one value.
	ErrAlreadyRun = errors.New("election: already run")
)

// Causes of the end of a leadership, found with context.Cause on the ctx of the
// LeaderCallback. ErrDuplicateMember is a cause too, and the cause of
// RunElection's ctx when that ended.
var (
	// ErrLeaseExpired: no renewal was acknowledged in time, or another member
	// has taken over.
	ErrLeaseExpired = errors.New("election: lease expired")
	// ErrResigned: ResignLeader was called.
	ErrResigned = errors.New("election: leadership resigned")
	// ErrTransferred: TransferLeader was called.
	ErrTransferred = errors.New("election: leadership transferred")
	// ErrHistoryLost: the stored record vanished or went back to an older state.
	ErrHistoryLost = errors.New("election: stored history was lost")
)

// PanicError is returned by RunElection after a LeaderCallback panicked. The
// leadership was released before.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // the callback's stack at the panic
}

// Error holds the panic's value and its stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("election: leader callback panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the panic's value if it was an error, else nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

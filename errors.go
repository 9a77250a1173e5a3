package election

import (
	"errors"
	"fmt"

	"github.com/sqlelect/election/internal/guard"
	"github.com/sqlelect/election/internal/rows"
)

// Errors of a Storage.
var (
	// ErrRecordConflict means that another version is stored than the one that a write of a Storage
	// was to replace. Nothing was written: read again and decide anew.
	ErrRecordConflict = rows.ErrConflict
	// ErrSchema means that the table, or a column or key of it that the call needs, is missing and
	// could not be added: for lack of rights, because the database is read-only, or because the
	// table stays locked. The error's text holds the SQL to run.
	ErrSchema = rows.ErrSchema
)

// Errors of TxnWithLeaderLock.
var (
	// ErrNotLeader means that the member does not lead: the database records another leader or
	// none, or another term than that of the reign in ctx. It is also returned if the reign in ctx
	// is another member's. Nothing was committed. Running the transaction again is useless until
	// the member leads again. ResignLeader and TransferLeader return ErrNotLeader too.
	ErrNotLeader = errors.New("election: not the leader")
	// ErrOutcomeUnknown means that COMMIT was sent and failed: the transaction
	// may or may not have been committed.
	ErrOutcomeUnknown = guard.ErrOutcomeUnknown
	// ErrTxnEnded means that the guarded transaction ended before its function returned: the
	// function ended it, or the database did and the function swallowed the error. Nothing was
	// committed outside the guard.
	ErrTxnEnded = guard.ErrTxnEnded
)

// Errors of RunElection, ResignLeader and TransferLeader.
var (
	// ErrDuplicateMember means that another live process runs with the same ID. The other process
	// may be a copy of this one, such as a snapshot of its machine that was resumed beside it. It
	// is found after a LeaseDuration at the earliest, in which this member does not lead.
	ErrDuplicateMember = errors.New("election: another live process has the same member ID")
	// ErrCallbackOverrun means that a LeaderCallback did not return within
	// StopTimeout after its ctx ended. It may still be running.
	ErrCallbackOverrun = errors.New("election: leader callback did not return in time")
	// ErrUnknownMember means that the member which TransferLeader names cannot take over: it is not
	// a live member, or it declines to campaign at present.
	ErrUnknownMember = errors.New("election: no such member to take over")
	// ErrAlreadyRun means that RunElection was called twice on one Elector, or Run twice on one
	// Observer.
	ErrAlreadyRun = errors.New("election: already run")
)

// Causes of the end of a leadership. In a LeaderCallback, context.Cause(ctx) returns one of them,
// ErrDuplicateMember, or the cause of RunElection's ctx when that ctx ended.
var (
	// ErrLeaseExpired means that no renewal was acknowledged in time, or that another member has
	// taken over.
	ErrLeaseExpired = errors.New("election: lease expired")
	// ErrResigned means that ResignLeader was called.
	ErrResigned = errors.New("election: leadership resigned")
	// ErrTransferred means that TransferLeader was called.
	ErrTransferred = errors.New("election: leadership transferred")
	// ErrHistoryLost means that the stored record vanished or went back to an older state.
	ErrHistoryLost = errors.New("election: stored history was lost")
)

// PanicError is returned by RunElection after a LeaderCallback panicked. RunElection first tries to
// release the leadership, as after any other end.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // the callback's stack at the panic
}

// Error returns a text with the panic's value and the callback's stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("election: leader callback panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the panic's value if it was an error, else nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

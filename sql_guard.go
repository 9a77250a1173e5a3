package election

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/guard"
)

// DefaultGuardTimeout bounds a guarded transaction of a storage on which
// WithGuardTimeout was not called.
const DefaultGuardTimeout = 10 * time.Second

// maxGuardTimeout fits into the settings of all servers. (PostgreSQL's are milliseconds in 32
// bits.)
const maxGuardTimeout = 24 * 24 * time.Hour

func guardTimeoutOf(d time.Duration) time.Duration {
	if d <= 0 {
		return DefaultGuardTimeout
	}
	return min(d, maxGuardTimeout)
}

// IsRetryable reports whether err, returned by TxnWithLeaderLock, means that the transaction lost a
// conflict with another one. Nothing was committed, and the caller may run it again. The library
// does not: the function may have effects that the library cannot undo.
//
// It is false for a transaction that took too long: for ctx, for the guard timeout (waiting for a
// lock included), or for a limit of the server's own such as statement_timeout. Run again, it would
// take too long again.
func IsRetryable(err error) bool {
	for _, final := range []error{ErrNotLeader, ErrOutcomeUnknown, ErrRecordConflict} {
		if errors.Is(err, final) {
			return false
		}
	}
	return !guard.IsLate(err) && dialect.Classify(err) == dialect.Retry
}

// TxnWithLeaderLock runs fn in a transaction that commits only if leaderID is the recorded leader
// of this storage's election at the moment of COMMIT. LeaderID is the caller's own Config.ID, and
// never another member's: whoever passes the ID of GetLeader passes the guard. An empty leaderID
// never leads.
//
// If ctx descends from the ctx of a LeaderCallback of this election, or from ContextWithLeadership,
// the transaction commits only in the term that ctx carries. Otherwise any term will do: also under
// the ctx of another election's callback.
//
// Fn runs at most once, and writes through tx. TxnWithLeaderLock returns when fn has returned and
// the transaction has ended. Nothing is committed if
//
//   - fn returns an error, which is returned as it is, or panics;
//   - leaderID does not lead, or not in that term: ErrNotLeader;
//   - ctx ends, or the guard timeout passes, before COMMIT is sent: ctx's error and its cause (in a
//     callback the reason why the leadership ended, not ErrNotLeader). The transaction is rolled
//     back at once, even while fn runs. A running statement is waited for, unless its own ctx ends it;
//   - another transaction is in conflict with this one: an error for which IsRetryable is true;
//   - fn, or the database under a statement whose error fn ignored, has ended tx: ErrTxnEnded, if fn
//     returns nil. Fn must not end tx, by whatever means.
//
// ErrOutcomeUnknown is the only error after which the transaction may have been committed. A COMMIT
// that was sent is waited for after ctx has ended: for two seconds, and in a LeaderCallback for a
// quarter of LeaseDuration − RenewDeadline at most.
//
// Until the transaction ends, no change of leader can be committed. Engines differ:
//
//   - SQLite: no other write of any kind can be committed either, renewals included. Keep the transaction
//     shorter than RenewInterval, and do not nest two. The guard uses the driver's commit and rollback
//     hooks, and removes hooks that the program has set on the connection.
//   - MariaDB and MySQL: the server refuses DDL, COMMIT and whatever else would commit inside fn, and
//     the transaction goes on. Fn must close its Rows.
//   - PostgreSQL: the server obeys a raw COMMIT while the guard still holds, and refuses what fn writes
//     after it. So fn must not ask for READ WRITE. Fn must close its Rows. Behind a pooler (PgBouncer) the
//     server refuses texts of several statements.
//   - Galera: a change of leader on another node ends the transaction, with an error for which
//     IsRetryable is true. The server obeys a raw COMMIT while the guard still holds.
//
// On PostgreSQL and Galera the transaction is READ WRITE, also in a session whose transactions are
// read-only. On PostgreSQL it cannot be prepared (PREPARE TRANSACTION). Afterwards the session's
// settings are as they were before, or as fn has set them. A few settings end with the transaction:
// docs/proof.md lists them.
func (s *SQLStorage) TxnWithLeaderLock(ctx context.Context, leaderID string, fn func(tx *sql.Tx) error) error {
	if fn == nil {
		return errors.New("election: guarded transaction: the function must not be nil")
	}
	return s.rows.guarded(ctx, leaderID, s.guardTimeout, func(_ context.Context, tx *sql.Tx) error { return fn(tx) })
}

// guarded is TxnWithLeaderLock. The ctx that fn gets ends with the guard timeout, too.
func (e electionRows) guarded(ctx context.Context, leaderID string, timeout time.Duration,
	fn func(context.Context, *sql.Tx) error,
) error {
	c := reignClaim{rows: e, leaderID: leaderID}
	if err := e.Guardable(ctx); err != nil {
		return c.explain(err)
	}
	term, err := c.readTerm(ctx)
	if err != nil {
		return c.explain(err)
	}
	return e.Run(ctx, leaderID, term, guard.Claim{
		Refused: ErrNotLeader, Valid: c.valid, Explain: c.explain,
		Timeout: timeout, Patience: c.reign.patience, Took: c.reign.guardTook,
	}, fn)
}

// reignClaim is the claim that a member leads an election: in the term that ctx carries, if it
// carries one.
type reignClaim struct {
	rows     electionRows
	leaderID string
	reign    Leadership
	carried  string // a description of the reign that ctx carries, of this election or another one
}

func (c *reignClaim) explain(err error) error {
	if errors.Is(err, ErrNotLeader) && c.carried != "" {
		err = fmt.Errorf("%w (%s)", err, c.carried)
	}
	return fmt.Errorf("election: guarded transaction of %q on %v: %w", c.leaderID, c.rows, err)
}

// readTerm returns the term of the reign that ctx carries for this election, or nil if it carries
// none.
func (c *reignClaim) readTerm(ctx context.Context) (*int64, error) {
	if c.leaderID == "" {
		return nil, fmt.Errorf("%w: the ID is empty", ErrNotLeader)
	}
	reign, inTerm := leadershipIn(ctx, c.rows.Scope())
	if !inTerm {
		if other, ok := LeadershipFromContext(ctx); ok {
			c.carried = fmt.Sprintf("the context carries %s, which is another election", other.describe())
		}
		return nil, nil
	}
	c.reign = reign
	if !reign.holds(c.leaderID) || reign.Term > math.MaxInt64 {
		return nil, fmt.Errorf("%w: called for %q, but the context carries %s", ErrNotLeader, c.leaderID, reign.describe())
	}
	c.carried = fmt.Sprintf("the context carries %s, which has ended, or is of another server with a database of that name", reign.describe())
	term := int64(reign.Term)
	return &term, c.valid()
}

// valid refuses a reign that has passed to a copy of this process. The leader row names both
// processes alike.
func (c *reignClaim) valid() error {
	if c.reign.passedToCopy() {
		return errCopied
	}
	return nil
}

var errCopied = fmt.Errorf("%w: the reign has passed to a copy of this process", ErrNotLeader)

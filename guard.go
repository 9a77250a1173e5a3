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

// maxGuardTimeout is what the settings of all servers can hold (PostgreSQL's are
// milliseconds in 32 bits).
const maxGuardTimeout = 24 * 24 * time.Hour

func guardTimeoutOf(d time.Duration) time.Duration {
	if d <= 0 {
		return DefaultGuardTimeout
	}
	return min(d, maxGuardTimeout)
}

// IsRetryable reports whether err, returned by TxnWithLeaderLock, means that
// the transaction lost a conflict with another one: nothing of it was committed
// and it may be run again, by the caller, whose function may have effects that
// the library cannot undo. It is false for a transaction that took too long for ctx, for the
// guard timeout, waiting for a lock included, or for a limit of the server's own, such as
// statement_timeout: run again, it would do so again.
func IsRetryable(err error) bool {
	for _, final := range []error{ErrNotLeader, ErrOutcomeUnknown, ErrRecordConflict} {
		if errors.Is(err, final) {
			return false
		}
	}
	return !guard.IsLate(err) && dialect.Classify(err) == dialect.Retry
}

// TxnWithLeaderLock runs fn in a transaction that commits only if leaderID is
// the recorded leader at the moment of commit: in the term that ctx carries,
// when ctx descends from a LeaderCallback's ctx or from ContextWithLeadership,
// else in whatever term. An empty leaderID never leads.
//
// Fn runs at most once. It must not end tx, by whatever means. If it has been ended
// all the same, by fn or, under a statement whose error fn swallowed, by the
// database, nothing is committed outside the guard, and if fn returns nil the error
// wraps ErrTxnEnded. When fn returns an error, that error is returned and the
// transaction rolled back; likewise when fn panics. When ctx ends, or the guard
// timeout passes, first, the transaction is rolled back at once, also under a fn
// that does not return; the call itself returns when fn has (a statement that is running is waited for, unless its own
// ctx ends it; a COMMIT that is under way, for at most two seconds more, in a
// LeaderCallback for at most a quarter of what lies between RenewDeadline and
// LeaseDuration).
//
// Errors: ErrNotLeader; ErrTxnEnded; those for which IsRetryable is true, after
// a conflict; ErrOutcomeUnknown, the only one after which the transaction may
// have been committed; fn's; ctx's.
//
// On a Galera cluster a change of leader on another node does not wait for the
// transaction but ends it, with an error for which IsRetryable is true. A raw COMMIT
// is obeyed there, as on PostgreSQL, while the guard still holds.
//
// On MariaDB, MySQL and PostgreSQL, fn must close its Rows. On MariaDB and MySQL
// the server refuses DDL, COMMIT and whatever else would commit inside fn, and the
// transaction goes on. On PostgreSQL a raw COMMIT is obeyed, while the guard still
// holds, and what fn writes after it is refused: fn must not ask for READ WRITE. Behind
// a pooler (PgBouncer) the server refuses texts of several statements.
//
// It is READ WRITE, also in a session whose transactions are read-only on PostgreSQL, and
// cannot be prepared (PREPARE TRANSACTION). The session's settings are as before
// afterwards, or as fn has set them; only default_transaction_read_only = on, on PostgreSQL, ends with the transaction.
//
// Until it ends, no change of leader can be committed (but on Galera). On SQLite no other write
// of any kind can, renewals included: keep it shorter than RenewInterval, write
// through tx only, and do not nest two. There it needs the driver's commit and
// rollback hooks, and removes any that the program itself set on the connection.
func (s *SQLStorage) TxnWithLeaderLock(ctx context.Context, leaderID string, fn func(tx *sql.Tx) error) error {
	if fn == nil {
		return errors.New("election: guarded transaction: the function must not be nil")
	}
	return s.rows.guarded(ctx, leaderID, s.guardTimeout, func(_ context.Context, tx *sql.Tx) error { return fn(tx) })
}

// guarded is TxnWithLeaderLock; fn's ctx ends with the guard timeout too.
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

// reignClaim says that a member leads an election, in a term if the ctx carries one.
type reignClaim struct {
	rows     electionRows
	leaderID string
	reign    Leadership
	carried  string // the reign that ctx carries, of this election or another one, in words
}

func (c *reignClaim) explain(err error) error {
	if errors.Is(err, ErrNotLeader) && c.carried != "" {
		err = fmt.Errorf("%w (%s)", err, c.carried)
	}
	return fmt.Errorf("election: guarded transaction of %q on %v: %w", c.leaderID, c.rows, err)
}

// readTerm takes the term from the reign that ctx carries for this election; nil: it carries none.
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

// valid refuses a reign that has passed to a copy of this process: the leader row names both alike.
func (c *reignClaim) valid() error {
	if c.reign.isCopys() {
		return errCopied
	}
	return nil
}

var errCopied = fmt.Errorf("%w: the reign has passed to a copy of this process", ErrNotLeader)

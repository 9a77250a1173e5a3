package election

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
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
// the library cannot undo. It is false for a transaction that took too long for the
// guard timeout or for a limit of the server's own, such as statement_timeout: run
// again, it would do so again.
func IsRetryable(err error) bool {
	for _, final := range []error{ErrNotLeader, ErrOutcomeUnknown, ErrRecordConflict} {
		if errors.Is(err, final) {
			return false
		}
	}
	return dialect.Classify(err) == dialect.Retry
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
// afterwards, or as fn has set them.
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
	c := claim{electionRows: e, leaderID: leaderID}
	if err := errors.Join(e.usable(ctx), e.hasStripes(ctx)); err != nil {
		return c.failed(err)
	}
	if err := c.readTerm(ctx); err != nil {
		return c.failed(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("guard timeout of %v has passed", timeout))
	defer cancel()
	g, err := c.acquire(ctx, timeout)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err) // the guard timeout, in words
		}
		return c.failed(err)
	}
	return g.run(ctx, fn)
}

// claim is what a guarded transaction is held to.
type claim struct {
	electionRows
	leaderID string
	reign    Leadership
	inTerm   bool   // the reign's term is part of the claim
	carried  string // the reign that ctx carries, of this election or another one, in words
}

func (c *claim) failed(err error) error {
	if errors.Is(err, ErrNotLeader) && c.carried != "" {
		err = fmt.Errorf("%w (%s)", err, c.carried)
	}
	return fmt.Errorf("election: guarded transaction of %q on %v: %w", c.leaderID, c.electionRows, err)
}

// readTerm takes the term from the reign that ctx carries for this election.
func (c *claim) readTerm(ctx context.Context) error {
	if c.leaderID == "" {
		return fmt.Errorf("%w: the ID is empty", ErrNotLeader)
	}
	if c.reign, c.inTerm = leadershipIn(ctx, c.scope()); !c.inTerm {
		if other, ok := LeadershipFromContext(ctx); ok {
			c.carried = fmt.Sprintf("the context carries %s, which is another election", other.describe())
		}
		return nil
	}
	c.carried = fmt.Sprintf("the context carries %s, which has ended, or is of another server with a database of that name", c.reign.describe())
	if !c.reign.holds(c.leaderID) || c.reign.Term > math.MaxInt64 {
		return fmt.Errorf("%w: the context's reign is another member's", ErrNotLeader)
	}
	if c.reign.isCopys() {
		return errCopied
	}
	return nil
}

// errCopied: the leader row names this process and its copy alike.
var errCopied = fmt.Errorf("%w: the reign has passed to a copy of this process", ErrNotLeader)

// guard is the condition that the transaction holds in place.
func (c *claim) guard(timeout time.Duration) dialect.Claim {
	held, gate := c.leads(c.guardRow()), c.gate()
	return dialect.Claim{
		Table: c.quoted, Where: held.where, Args: held.args, Gate: gate.where, GateArgs: gate.args,
		Election: c.election, Timeout: timeout,
	}
}

// leads selects r if it holds what is claimed.
func (c *claim) leads(r row) row {
	where, args := r.where+" AND "+c.dialect.ByteEqual("leader_id"), append(r.args, c.leaderID)
	if c.inTerm {
		where, args = where+" AND version = ?", append(args, int64(c.reign.Term))
	}
	return row{where, args}
}

// acquire returns a transaction that holds the guard. It waits until ctx ends
// for whoever holds the lock; each attempt has a connection of its own, so that
// a pool of one is not blocked meanwhile for this process's renewals.
func (c *claim) acquire(ctx context.Context, timeout time.Duration) (g *guardedTxn, err error) {
	if err := ctx.Err(); err != nil {
		return nil, endOf(ctx)
	}
	turn, err := c.turns.Take(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			turn.Give()
			return
		}
		g.turn = turn
	}()
	begin := func() error {
		return sqldb.Retry(ctx, func() error {
			if err := turn.Yield(ctx); err != nil {
				return err
			}
			return sqldb.OnLiveConn(c.db, func() error {
				g, err = c.begin(ctx, timeout, turn)
				return err
			})
		})
	}
	err = begin()
	if errors.Is(err, ErrNotLeader) && c.dialect.Stripes > 0 {
		mended, mendErr := c.mendStripes(ctx, c.leads(c.leaderRow()))
		if !mended {
			return nil, errors.Join(err, mendErr)
		}
		err = begin()
	}
	return g, err
}

func (c *claim) begin(ctx context.Context, timeout time.Duration, turn *sqldb.Turn) (_ *guardedTxn, err error) {
	g := &guardedTxn{claim: c}
	if g.conn, err = c.db.Conn(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.discard = g.discard || dialect.Classify(err) == dialect.Elsewhere
			err = errors.Join(err, g.inTime(g.overdue(ctx), g.close))
		}
	}()
	restore, err := c.dialect.Hasten(ctx, g.conn)
	defer func() { err = errors.Join(err, restore()) }() // before fn, which waits as the program wants it to
	if err != nil {
		return nil, err
	}
	if g.fence, err = c.dialect.Fence(ctx, g.conn, c.identity); err != nil {
		return nil, err
	}
	// The transaction outlives ctx: database/sql would roll it back when ctx
	// ends, but without telling when it has done so, and the hooks must stay until
	// then. See watch.
	txCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g.cancel = cancel
	detach := context.AfterFunc(ctx, cancel)
	g.tx, err = g.fence.Begin(txCtx)
	if !detach() {
		return nil, errors.Join(endOf(ctx), err)
	}
	if err != nil {
		return nil, err
	}
	if err := g.tx.Watch(ctx, c.last); err != nil {
		return nil, err
	}
	held, err := g.fence.Hold(ctx, g.tx.Tx, c.guard(timeout))
	switch {
	case err != nil:
		// Unless the server says that the statement was undone, it is not known whether the session
		// was changed, and what there is to restore.
		g.discard = !dialect.Classify(err).Undone()
		return nil, err
	case !held:
		return nil, ErrNotLeader
	}
	g.since = time.Now()
	turn.Held()
	return g, nil
}

// endOf says why ctx ended.
func endOf(ctx context.Context) error {
	if err, cause := ctx.Err(), context.Cause(ctx); cause != err {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return ctx.Err()
}

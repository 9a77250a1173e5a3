package election

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Leadership says who leads, and in which term. The zero value means that no
// leader is known.
type Leadership struct {
	// Leader is the leader's entry, or nil when no leader with a valid lease is
	// known.
	Leader *Member
	// Term is the number of the reign. If Leader is nil, it is that of the last known reign, or 0.
	Term uint64

	// scope names the database, the table and the election of the reign. A reign whose scope is ""
	// holds for every storage.
	scope string
	// guardTook, if set, is told how long each guarded transaction of this reign took.
	guardTook func(time.Duration)
	// copied, if set, turns true when the process of this reign finds that it was copied and that
	// its copy goes on. The database cannot tell the two apart, so the process itself then refuses
	// its guarded transactions.
	copied *atomic.Bool
	// patience, if set, is how long a guarded transaction of this reign waits for its COMMIT or
	// ROLLBACK once its time is over.
	patience time.Duration
}

// scoped is an ability that a Storage may have: scope names its database, table and election. The
// name is equal for every handle on the same election.
type scoped interface{ scope() string }

// leadershipKey finds a Leadership in a ctx. With a scope it finds the reign of that election, so
// reigns of several elections nest. With innermost set it finds the Leadership that was put in
// last.
type leadershipKey struct {
	scope     string
	innermost bool
}

// LeadershipFromContext returns the reign that ctx carries and true, or the zero Leadership and
// false when it carries none. The ctx of every LeaderCallback carries the callback's reign;
// ContextWithLeadership puts one into any ctx. Of nested reigns the innermost is returned. Its
// Leader is a copy: the caller may keep and change it.
func LeadershipFromContext(ctx context.Context) (Leadership, bool) {
	l, ok := ctx.Value(leadershipKey{innermost: true}).(Leadership)
	l.Leader = l.Leader.Clone()
	return l, ok
}

// ContextWithLeadership returns a child of ctx that carries l. It is for work done on the leader's
// behalf outside the callback, such as a request handler: under the child, TxnWithLeaderLock
// commits only in l's term. Take l from LeadershipFromContext, Observe or Status.
//
// A Leadership built by hand (Term and Leader.ID) counts on whichever storage the transaction runs.
// Under a Leadership without a Leader, every guarded transaction returns ErrNotLeader. The entry
// that l.Leader points to is copied.
func ContextWithLeadership(ctx context.Context, l Leadership) context.Context {
	l.Leader = l.Leader.Clone()
	ctx = context.WithValue(ctx, leadershipKey{scope: l.scope}, l)
	return context.WithValue(ctx, leadershipKey{innermost: true}, l)
}

// leadershipIn returns the reign that ctx carries for the election of scope, or else one that holds
// for every storage.
func leadershipIn(ctx context.Context, scope string) (Leadership, bool) {
	if l, ok := ctx.Value(leadershipKey{scope: scope}).(Leadership); ok {
		return l, true
	}
	l, ok := ctx.Value(leadershipKey{}).(Leadership)
	return l, ok
}

// describe says whose reign l is, in which term, and of which election.
func (l Leadership) describe() string {
	leader := "nobody"
	if l.Leader != nil {
		leader = strconv.Quote(l.Leader.ID)
	}
	of := "any election"
	if parts := strings.Split(l.scope, "\x00"); len(parts) == 3 { // see rows.Election.Scope
		of = fmt.Sprintf("election %q in table %s of database %q", parts[2], parts[1], parts[0])
	}
	return fmt.Sprintf("the reign of %s in term %d of %s", leader, l.Term, of)
}

// passedToCopy reports whether l has passed to a copy of this process.
func (l Leadership) passedToCopy() bool { return l.copied != nil && l.copied.Load() }

// holds reports whether l is a reign of the member id.
func (l Leadership) holds(id string) bool {
	return l.Leader != nil && l.Leader.ID == id
}

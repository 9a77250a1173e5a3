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
	// Term is the number of the reign; with a nil Leader, of the last known one.
	Term uint64

	// scope names the database, table and election; "" fits every storage.
	scope string
	// guardTook, if set, is told how long each guarded transaction of this reign took.
	guardTook func(time.Duration)
	// copied, if set, turns true when the process of this reign finds that it was copied and
	// that its copy goes on: the database cannot tell the two apart.
	copied *atomic.Bool
	// patience, if set, is for how long the end of a guarded transaction of this reign is waited for.
	patience time.Duration
}

// scoped is the ability of a Storage to name its database, table and election,
// equal for every handle on the same election.
type scoped interface{ scope() string }

// leadershipKey finds a Leadership in a ctx: of one scope, so that reigns of
// several elections nest, or with innermost set, the last one put in.
type leadershipKey struct {
	scope     string
	innermost bool
}

// LeadershipFromContext returns the reign in which ctx's work is done and
// whether there is one. It is set on the ctx of every LeaderCallback, and by
// ContextWithLeadership. Among nested ones the innermost is returned. Its Leader is
// a copy, the caller's to keep and change.
func LeadershipFromContext(ctx context.Context) (Leadership, bool) {
	l, ok := ctx.Value(leadershipKey{innermost: true}).(Leadership)
	l.Leader = l.Leader.Clone()
	return l, ok
}

// ContextWithLeadership returns a child of ctx that carries l, for work done
// outside the callback on the leader's behalf, such as a request handler: a
// TxnWithLeaderLock under it is held to l's term. Take l from
// LeadershipFromContext, Observe or Status; a Leadership built by hand applies
// to every storage. One without a Leader refuses every guarded transaction. What
// l.Leader points to is copied.
func ContextWithLeadership(ctx context.Context, l Leadership) context.Context {
	l.Leader = l.Leader.Clone()
	ctx = context.WithValue(ctx, leadershipKey{scope: l.scope}, l)
	return context.WithValue(ctx, leadershipKey{innermost: true}, l)
}

// leadershipIn returns the reign that ctx carries for the election of scope.
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
	if parts := strings.Split(l.scope, "\x00"); len(parts) == 3 { // see electionRows.scope
		of = fmt.Sprintf("election %q in table %s of database %q", parts[2], parts[1], parts[0])
	}
	return fmt.Sprintf("the reign of %s in term %d of %s", leader, l.Term, of)
}

// isCopys reports whether l has passed to a copy of this process.
func (l Leadership) isCopys() bool { return l.copied != nil && l.copied.Load() }

// holds reports whether l is a reign of the member id.
func (l Leadership) holds(id string) bool {
	return l.Leader != nil && l.Leader.ID == id
}

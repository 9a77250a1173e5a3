package storagetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sqlelect/election"
)

// caseTimeout bounds one case, so that a Storage that hangs fails the test.
const caseTimeout = 30 * time.Second

// Run checks a Storage against the contract of [election.Storage], and of [election.MemberStorage]
// if it is one. There is one subtest per sentence; a failure names the sentence that is broken. The
// subtests run in parallel.
//
// Run cannot delete rows, lose replies or slow a call down. So it does not check what the contract
// says of rows that are missing, of unknown outcomes, and of calls whose ctx ends while they are
// under way. It does not check a Watcher.
//
// For each subtest open returns two handles on one new, empty election. The handles must be as
// separate as two processes are: two connections, two pools, no lock in common. Otherwise a Storage
// would pass that is right within one process only. open closes what it opens by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) (a, b election.Storage)) {
	t.Helper()
	for _, c := range append(cases(), memberCases()...) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := open(t)
			ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
			defer cancel()
			err := c.check(ctx, a, b)
			if errors.Is(err, errNoMembers) {
				t.Skip(err)
			}
			if err != nil {
				t.Errorf("%v\nthe contract says: %s", err, c.sentence)
			}
		})
	}
}

// testCase checks one sentence of the contract. check returns what it found wrong, or nil.
type testCase struct {
	name     string
	sentence string
	check    func(ctx context.Context, a, b election.Storage) error
}

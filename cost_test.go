package election_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// A renewal costs one read and one write, when nothing else changed. The leader
// also reads the members.
func TestRenewalCostsOneReadAndOneWrite(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t)
			join := func(id string) (*partyMember, *dbtest.Statements) {
				handle, statements := db.OpenCounted(t)
				storage, err := kind.open(handle, "", "")
				require.NoError(t, err)
				return p.join(id, storage), statements
			}
			a, ofLeader := join("a")
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			b, ofFollower := join("b")
			waitFor(t, time.Minute, "both know each other", func() bool { return len(a.GetMembers()) == 2 && len(b.GetMembers()) == 2 })
			<-time.After(5 * election.DefaultRenewInterval / 2)
			renewedAt := b.Status().RenewedAt
			ofLeader.Take()
			ofFollower.Take()
			const intervals = 50
			<-time.After(intervals * election.DefaultRenewInterval)
			require.Greater(t, b.Status().RenewedAt.Sub(renewedAt), (intervals-2)*election.DefaultRenewInterval)
			// Each interval is shortened by up to a tenth.
			require.LessOrEqual(t, len(ofFollower.Take()), 2*intervals*10/9+2)
			require.LessOrEqual(t, len(ofLeader.Take()), 3*intervals*10/9+3)
		})
	})
}

// BenchmarkRenewal lets a leader renew without a pause, and counts statements.
func BenchmarkRenewal(b *testing.B) {
	for _, kind := range storageKinds() {
		b.Run(kind.name, func(b *testing.B) {
			handle, statements := dbtest.SQLite(b).OpenCounted(b)
			storage, err := kind.open(handle, "", "")
			require.NoError(b, err)
			renewed := make(chan struct{})
			counting := &hooked{Storage: storage}
			counting.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
				err := next(ctx)
				select {
				case renewed <- struct{}{}:
				case <-ctx.Done():
				}
				return err
			}
			e, err := election.NewElector(election.Config{ID: "a", Storage: counting, LeaderCallback: stay, RenewInterval: time.Nanosecond})
			require.NoError(b, err)
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			go func() { ended <- e.RunElection(ctx) }()
			<-renewed // the acquisition
			statements.Take()
			for b.Loop() {
				<-renewed
			}
			b.ReportMetric(float64(len(statements.Take()))/float64(b.N), "statements/op")
			cancel()
			for running := true; running; {
				select {
				case <-renewed:
				case <-ended:
					running = false
				}
			}
		})
	}
}

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

// A renewal costs one read and one write, when nothing else changed.
func TestRenewalCostsOneReadAndOneWrite(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			handle, statements := db.OpenCounted(t)
			storage, err := kind.open(handle, "", "")
			require.NoError(t, err)
			p := newParty(t)
			a := p.join("a", storage)
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			<-time.After(election.DefaultRenewInterval / 2)
			renewedAt := a.Status().RenewedAt
			statements.Take()
			const intervals = 50
			<-time.After(intervals * election.DefaultRenewInterval)
			require.Greater(t, a.Status().RenewedAt.Sub(renewedAt), (intervals-2)*election.DefaultRenewInterval)
			// Each interval is shortened by up to a tenth.
			require.LessOrEqual(t, len(statements.Take()), 2*intervals*10/9+2)
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

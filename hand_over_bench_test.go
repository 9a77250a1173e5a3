package election_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// BenchmarkHandOver resigns again and again at default settings, and reports how
// long it takes from the return of one callback to the start of the next one, on
// another handle.
func BenchmarkHandOver(b *testing.B) {
	for _, db := range append([]*dbtest.Database{dbtest.SQLite(b)}, dbtest.Servers(b)...) {
		b.Run(db.Name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			started, returned := make(chan string, 1), make(chan time.Time, 1)
			electors, ended := map[string]election.Elector{}, make(chan struct{}, 3)
			for i := range cap(ended) {
				id := fmt.Sprint("member ", i)
				e, err := election.NewElector(election.Config{ID: id, Storage: openSQL(b, db.Open(b)), LeaderCallback: func(ctx context.Context) error {
					started <- id
					<-ctx.Done()
					returned <- time.Now()
					return nil
				}})
				require.NoError(b, err)
				electors[id] = e
				go func() { _ = e.RunElection(ctx); ended <- struct{}{} }()
			}
			tick := time.NewTicker(60 * time.Millisecond)
			defer tick.Stop()
			leader := <-started
			for _, e := range electors {
				for !e.Status().Watching {
					<-tick.C
				}
			}
			var took []time.Duration
			for b.Loop() {
				require.NoError(b, electors[leader].ResignLeader(ctx, 50*time.Millisecond))
				left := <-returned
				leader = <-started
				took = append(took, time.Since(left))
				<-tick.C
				<-tick.C // the resignation's pause is over
			}
			cancel()
			<-returned
			for range cap(ended) {
				<-ended
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
		})
	}
}

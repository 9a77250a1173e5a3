package election_test

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// BenchmarkElections runs 500 elections of three members each, one on each of three
// handles, at default settings for 30 s, and reports
//
//	statements/s  of all members
//	per-interval  statements of one member in a RenewInterval
//	goroutines    of one member
//	connections   of one handle
//
// Run it with -benchtime=1x.
func BenchmarkElections(b *testing.B) {
	for _, db := range append([]*dbtest.Database{dbtest.SQLite(b)}, dbtest.Servers(b)...) {
		b.Run(db.Name, func(b *testing.B) {
			for b.Loop() {
				elections(b, db.Fresh(b), 500, 3, 30*time.Second)
			}
		})
	}
}

func elections(b *testing.B, db *dbtest.Database, n, replicas int, length time.Duration) {
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	before := runtime.NumGoroutine()
	var handles []*sql.DB
	var counts []*dbtest.Statements
	electors := make([][]election.Elector, n)
	for replica := range replicas {
		handle, statements := db.OpenCounted(b)
		handle.SetMaxOpenConns(conns(db))
		handles, counts = append(handles, handle), append(counts, statements)
		storage := openSQL(b, handle)
		for i := range electors {
			e, err := election.NewElector(election.Config{
				ID: fmt.Sprint("replica ", replica), Storage: storage.Election(fmt.Sprint("shard ", i)), LeaderCallback: stay,
			})
			require.NoError(b, err)
			electors[i] = append(electors[i], e)
			running.Go(func() { _ = e.RunElection(ctx) })
		}
	}
	settled := func() bool {
		for _, replicas := range electors {
			for _, e := range replicas {
				if _, ok := e.GetLeader(); !ok || len(e.GetMembers()) != len(replicas) {
					return false
				}
			}
		}
		return true
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); !settled(); <-tick.C {
		require.Less(b, time.Since(start), 2*time.Minute)
	}
	for start := time.Now(); time.Since(start) < 2*election.DefaultLeaseDuration; {
		<-tick.C
	}
	for _, count := range counts {
		count.Take()
	}
	start := time.Now()
	for time.Since(start) < length {
		<-tick.C
	}
	sent, connections := 0, 0
	for i, count := range counts {
		sent += len(count.Take())
		connections = max(connections, handles[i].Stats().OpenConnections)
	}
	perSecond := float64(sent) / time.Since(start).Seconds()
	members := float64(n * replicas)
	require.True(b, settled(), "somebody was dropped, or a leader lost")
	b.ReportMetric(perSecond, "statements/s")
	b.ReportMetric(perSecond*election.DefaultRenewInterval.Seconds()/members, "per-interval")
	b.ReportMetric(float64(runtime.NumGoroutine()-before)/members, "goroutines")
	b.ReportMetric(float64(connections), "connections")
	b.ReportMetric(0, "ns/op")
}

// conns is how large a pool makes sense: SQLite has one writer at a time, and they
// fight for it.
func conns(db *dbtest.Database) int {
	if db.Engine == "sqlite" {
		return 4
	}
	return 32
}

package election_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// BenchmarkSlowLink lets members work over a link with a round trip of so long, on which TLS
// and a login take four round trips more, and reports how long it takes to open, to lead and
// to hand over, and for how much of the time somebody leads while the leader's connections
// are cut every 30 s, for SLOW_LINK_FOR (95s). All links are measured at the same time.
func BenchmarkSlowLink(b *testing.B) {
	var all sync.WaitGroup
	for _, db := range dbtest.Servers(b) {
		for _, trip := range []time.Duration{0, 50 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond} {
			all.Go(func() { slowLinkRow(b, db.Fresh(b), trip) })
		}
	}
	all.Wait()
	b.ReportMetric(0, "ns/op")
}

func slowLinkRow(b *testing.B, db *dbtest.Database, trip time.Duration) {
	started, leading := make(chan time.Time, 100), atomic.Int64{}
	ctx, cancel := context.WithCancel(b.Context())
	var members sync.WaitGroup
	defer members.Wait()
	defer cancel()
	var open, led time.Duration
	var electors []election.Elector
	var links []*dbtest.Proxy
	for _, id := range []string{"a", "b"} {
		behind, link := db.Behind(b)
		link.Login(4)
		link.Delay(trip / 2)
		began := time.Now()
		storage, err := election.NewSQLStorage(behind.Open(b), "")
		require.NoError(b, err)
		open = max(open, time.Since(began))
		e, err := election.NewElector(election.Config{ID: id, Storage: storage, LeaderCallback: func(ctx context.Context) error {
			started <- time.Now()
			leading.Add(1)
			defer leading.Add(-1)
			<-ctx.Done()
			return nil
		}})
		require.NoError(b, err)
		electors, links = append(electors, e), append(links, link)
		began = time.Now()
		members.Go(func() { _ = e.RunElection(ctx) })
		if id == "a" {
			led = (<-started).Sub(began)
			fmt.Printf("%s, %v: open %v, lead %v\n", db.Name, trip, open.Round(time.Millisecond), led.Round(time.Millisecond))
		}
	}
	settled := time.NewTicker(10 * time.Millisecond)
	defer settled.Stop()
	for range settled.C { // until both have joined, know each other, and are told of changes
		a, b := electors[0], electors[1]
		if len(a.GetMembers()) == 2 && len(b.GetMembers()) == 2 && a.Status().Watching && b.Status().Watching {
			break
		}
	}
	began := time.Now()
	_ = electors[0].ResignLeader(ctx, time.Millisecond)
	over := (<-started).Sub(began)
	fmt.Printf("%s, %v: hand over %v\n", db.Name, trip, over.Round(time.Millisecond))

	patience, err := time.ParseDuration(os.Getenv("SLOW_LINK_FOR"))
	if err != nil {
		patience = 95 * time.Second
	}
	tick, end := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	cut := time.NewTicker(30 * time.Second)
	defer cut.Stop()
	seen, with := 0, 0
	for running := true; running; {
		select {
		case <-tick.C:
			if seen++; leading.Load() > 0 {
				with++
			}
		case <-cut.C:
			for i, e := range electors {
				if e.IsLeader() {
					links[i].Cut()
					links[i].Delay(trip / 2)
				}
			}
		case <-end:
			running = false
		}
	}
	fmt.Printf("%s, %v: open %v, lead %v, hand over %v, led %.1f%% in %d reigns after that\n", db.Name, trip, open.Round(time.Millisecond),
		led.Round(time.Millisecond), over.Round(time.Millisecond), 100*float64(with)/float64(seen), len(started))
}

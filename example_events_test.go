package election_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/sqlelect/election"
)

// counter stands for a metric of the program's.
type counter struct {
	mu sync.Mutex
	of map[election.EventKind]int
}

func (c *counter) count(e election.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[e.Kind]++
}

// Metrics are made of events. OnEvent is called by one goroutine at a time, and never delays the election.
func ExampleEvent() {
	storage, _ := election.NewInMemorySQLStorage("example-events", "")
	defer storage.Close()
	metric := counter{of: map[election.EventKind]int{}}
	ctx, stop := context.WithCancel(context.Background())
	elector, _ := election.NewElector(election.Config{
		ID: "replica-1", Storage: storage,
		OnEvent: metric.count,
		LeaderCallback: func(ctx context.Context) error {
			stop()
			<-ctx.Done()
			return nil
		},
	})
	_ = elector.RunElection(ctx) // returns when the last event was delivered
	fmt.Println("acquired:", metric.of[election.EventAcquired], "released:", metric.of[election.EventReleased])
	// Output: acquired: 1 released: 1
}

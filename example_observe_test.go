package election_test

import (
	"context"
	"fmt"
	"time"

	"github.com/sqlelect/election"
)

// A gateway that takes no part routes to whoever leads.
func ExampleNewObserver() {
	storage, _ := election.NewInMemorySQLStorage("example-observer", "")
	defer storage.Close()
	ctx, cancel := context.WithCancel(context.Background())
	replica, _ := election.NewElector(election.Config{
		ID: "replica-1", Address: "10.0.0.7:80", Storage: storage,
		LeaderCallback: func(ctx context.Context) error { <-ctx.Done(); return nil },
	})
	ended := make(chan error)
	go func() { ended <- replica.RunElection(ctx) }()

	gateway, _ := election.NewObserver(storage, election.ObserverConfig{PollInterval: time.Millisecond})
	go func() { ended <- gateway.Run(ctx) }()
	for now := range gateway.Observe(ctx) {
		if now.Leader != nil {
			fmt.Println("route to", now.Leader.Address, "in term", now.Term)
			break
		}
	}
	cancel()
	<-ended
	<-ended
	// Output: route to 10.0.0.7:80 in term 1
}

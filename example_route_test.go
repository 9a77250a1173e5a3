package election_test

import (
	"context"
	"fmt"

	"github.com/sqlelect/election"
)

// A replica that does not lead forwards to the one that does. Observe tells of each change, the latest state
// first.
func ExampleElector_observe() {
	storage, _ := election.NewInMemorySQLStorage("example-route", "")
	defer storage.Close()
	ctx, stop := context.WithCancel(context.Background())
	elector, _ := election.NewElector(election.Config{
		ID: "replica-1", Address: "10.0.0.7:80", Storage: storage,
		LeaderCallback: func(ctx context.Context) error { <-ctx.Done(); return nil },
	})
	ended := make(chan error)
	go func() { ended <- elector.RunElection(ctx) }()

	for now := range elector.Observe(ctx) {
		if now.Leader != nil { // else nobody leads: answer 503
			fmt.Println("forward to", now.Leader.Address)
			break
		}
	}
	leader, _ := elector.GetLeader() // the same answer, where a look is enough
	fmt.Println("leader:", leader.ID)
	stop()
	<-ended
	// Output:
	// forward to 10.0.0.7:80
	// leader: replica-1
}

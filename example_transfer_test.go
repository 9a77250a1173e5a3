package election_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sqlelect/election"
)

// Before a replica is drained for an upgrade, it hands over to one that stays.
func ExampleElector_transferLeader() {
	storage, _ := election.NewInMemorySQLStorage("example-transfer", "")
	defer storage.Close()
	ctx, cancel := context.WithCancel(context.Background())
	led := make(chan string)
	var electors sync.WaitGroup
	join := func(id string) election.Elector {
		elector, _ := election.NewElector(election.Config{
			ID: id, Storage: storage, RenewInterval: 50 * time.Millisecond,
			LeaderCallback: func(ctx context.Context) error {
				led <- id
				<-ctx.Done()
				return nil
			},
		})
		electors.Go(func() { _ = elector.RunElection(ctx) })
		return elector
	}
	first := join("replica-1")
	fmt.Println(<-led, "leads")
	join("replica-2")
	for range time.Tick(time.Millisecond) {
		if len(first.GetMembers()) == 2 { // a target must be a live member
			break
		}
	}
	fmt.Println("transferred:", first.TransferLeader(ctx, "replica-2") == nil)
	fmt.Println(<-led, "leads")
	cancel()
	electors.Wait()
	// Output:
	// replica-1 leads
	// transferred: true
	// replica-2 leads
}

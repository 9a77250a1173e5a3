package election_test

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sqlelect/election"
)

// A leader per shard, all in one table.
func ExampleSQLStorage_Election() {
	storage, _ := election.NewInMemorySQLStorage("example-shards", "")
	defer storage.Close()
	ctx, cancel := context.WithCancel(context.Background())
	led := make(chan string)
	var electors sync.WaitGroup
	for _, shard := range []string{"north", "south"} {
		elector, _ := election.NewElector(election.Config{
			ID: "replica-1", Storage: storage.Election(shard),
			LeaderCallback: func(ctx context.Context) error {
				led <- shard
				<-ctx.Done()
				return nil
			},
		})
		electors.Go(func() { _ = elector.RunElection(ctx) })
	}
	shards := []string{<-led, <-led}
	slices.Sort(shards)
	fmt.Println("replica-1 leads", shards)
	cancel()
	electors.Wait()
	// Output: replica-1 leads [north south]
}

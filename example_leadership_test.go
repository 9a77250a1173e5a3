package election_test

import (
	"context"
	"fmt"

	"github.com/sqlelect/election"
)

// A function deep below the callback finds the reign it works for in its ctx.
func ExampleLeadershipFromContext() {
	work := func(ctx context.Context) string {
		reign, ok := election.LeadershipFromContext(ctx)
		if !ok {
			return "nobody leads here"
		}
		return fmt.Sprintf("%s leads in term %d", reign.Leader.ID, reign.Term)
	}
	storage, _ := election.NewInMemorySQLStorage("example-leadership", "")
	defer storage.Close()
	ctx, stop := context.WithCancel(context.Background())
	elector, _ := election.NewElector(election.Config{
		ID: "replica-1", Storage: storage,
		LeaderCallback: func(ctx context.Context) error {
			defer stop()
			fmt.Println(work(ctx))
			return nil
		},
	})
	_ = elector.RunElection(ctx)
	fmt.Println(work(ctx))
	// Output:
	// replica-1 leads in term 1
	// nobody leads here
}

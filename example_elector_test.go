package election_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/sqlelect/election"
)

// RunElection blocks until its ctx ends. The callback runs while this replica leads.
func ExampleNewElector() {
	storage, _ := election.NewInMemorySQLStorage("example-elector", "")
	defer storage.Close()
	ctx, stop := context.WithCancel(context.Background())
	elector, err := election.NewElector(election.Config{
		ID: "replica-1", Storage: storage,
		LeaderCallback: func(ctx context.Context) error {
			fmt.Println("leading")
			stop() // as SIGTERM does, through signal.NotifyContext
			<-ctx.Done()
			return nil
		},
	})
	if err != nil {
		panic(err)
	}
	err = elector.RunElection(ctx)
	fmt.Println("stopped:", errors.Is(err, context.Canceled))

	_, err = election.NewElector(election.Config{ID: "replica-2", Storage: storage})
	fmt.Println(err)
	// Output:
	// leading
	// stopped: true
	// election: invalid config: LeaderCallback must not be nil
}

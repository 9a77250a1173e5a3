package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sqlelect/election"
)

// A request handler runs outside the callback. Carrying the reign in its ctx
// fences its writes by term there too.
func ExampleContextWithLeadership() {
	storage, _ := election.NewInMemorySQLStorage("example-handler", "")
	defer storage.Close()
	ctx, cancel := context.WithCancel(context.Background())
	reigns := make(chan election.Leadership)
	elector, _ := election.NewElector(election.Config{
		ID: "replica-1", Storage: storage, RenewInterval: 10 * time.Millisecond,
		LeaderCallback: func(ctx context.Context) error {
			reign, _ := election.LeadershipFromContext(ctx)
			reigns <- reign
			<-ctx.Done()
			return nil
		},
	})
	ended := make(chan error)
	go func() { ended <- elector.RunElection(ctx) }()

	handle := func(reign election.Leadership) error {
		request := election.ContextWithLeadership(context.Background(), reign)
		return storage.TxnWithLeaderLock(request, "replica-1", func(*sql.Tx) error { return nil })
	}
	first := <-reigns
	fmt.Println("in its reign:", handle(first))
	_ = elector.ResignLeader(ctx, 0)
	<-reigns // elected again: the same ID, another term
	fmt.Println("in a later one refused:", errors.Is(handle(first), election.ErrNotLeader))
	cancel()
	<-ended
	// Output:
	// in its reign: <nil>
	// in a later one refused: true
}

package election_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sqlelect/election"
)

// The cause of the callback's ctx says why the leadership ended. A replica that resigns stays a member, and does
// not campaign for the time that it names.
func ExampleElector_resignLeader() {
	storage, _ := election.NewInMemorySQLStorage("example-resign", "")
	defer storage.Close()
	ctx, stop := context.WithCancel(context.Background())
	leads, why := make(chan struct{}), make(chan error, 1)
	elector, _ := election.NewElector(election.Config{
		ID: "replica-1", Storage: storage,
		LeaderCallback: func(ctx context.Context) error {
			close(leads)
			<-ctx.Done()
			why <- context.Cause(ctx)
			return nil
		},
	})
	ended := make(chan error)
	go func() { ended <- elector.RunElection(ctx) }()

	<-leads
	fmt.Println("leads:", elector.IsLeader())
	err := elector.ResignLeader(ctx, time.Minute) // waits until the callback has returned
	fmt.Println("resigned:", err == nil, "leads:", elector.IsLeader())
	fmt.Println("the callback was told:", errors.Is(<-why, election.ErrResigned))
	stop()
	<-ended
	// Output:
	// leads: true
	// resigned: true leads: false
	// the callback was told: true
}

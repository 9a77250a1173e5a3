package election_test

import (
	"context"
	"fmt"
	"time"

	"github.com/sqlelect/election"
)

// Durations left zero take their defaults. Durations that contradict each other are an error that names them.
func ExampleConfig_AdjustAndValidate() {
	storage, _ := election.NewInMemorySQLStorage("example-config", "")
	defer storage.Close()
	config := election.Config{
		ID: "replica-1", Storage: storage,
		LeaderCallback: func(context.Context) error { return nil },
	}
	fmt.Println(config.AdjustAndValidate())
	fmt.Println(config.LeaseDuration, config.RenewInterval, config.RenewDeadline, config.StopTimeout)

	config.RenewDeadline = 9 * time.Second
	fmt.Println(config.AdjustAndValidate() == nil)
	// Output:
	// <nil>
	// 10s 2s 8s 10s
	// false
}

// A health check that never waits: it reads what the elector knows.
func ExampleElector_status() {
	storage, _ := election.NewInMemorySQLStorage("example-status", "")
	defer storage.Close()
	ctx, stop := context.WithCancel(context.Background())
	leads := make(chan struct{})
	elector, _ := election.NewElector(election.Config{
		ID: "replica-1", Storage: storage,
		LeaderCallback: func(ctx context.Context) error {
			close(leads)
			<-ctx.Done()
			return nil
		},
	})
	ended := make(chan error)
	go func() { ended <- elector.RunElection(ctx) }()
	<-leads
	status := elector.Status()
	fmt.Println(status.ID, status.State, status.Err, status.TrustLeft > 0)
	stop()
	<-ended
	// Output: replica-1 leader <nil> true
}

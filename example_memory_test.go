package election_test

import (
	"context"
	"fmt"

	"github.com/sqlelect/election"
)

// In tests two replicas can share a database in memory, by its name.
func ExampleNewInMemorySQLStorage() {
	first, err := election.NewInMemorySQLStorage("example-memory", "")
	if err != nil {
		panic(err)
	}
	defer first.Close()
	second, err := election.NewInMemorySQLStorage("example-memory", "")
	if err != nil {
		panic(err)
	}
	defer second.Close()

	ctx := context.Background()
	_ = first.Update(ctx, &election.Record{LeaderID: "replica-1", Term: 1}, true)
	record, err := second.Get(ctx)
	fmt.Println(record.LeaderID, record.Term, record.Version, err)
	// Output: replica-1 1 1 <nil>
}

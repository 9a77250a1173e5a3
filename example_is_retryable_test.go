package election_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/sqlelect/election"
)

// A guarded transaction that was refused because another member leads is not run again: it would be
// refused again.
func ExampleIsRetryable() {
	storage, _ := election.NewInMemorySQLStorage("example-retryable", "")
	defer storage.Close()
	err := storage.TxnWithLeaderLock(context.Background(), "replica-1", func(*sql.Tx) error { return nil })
	fmt.Println(election.IsRetryable(err))
	fmt.Println(err)
	// Output:
	// false
	// election: guarded transaction of "replica-1" on table "election": election: not the leader
}

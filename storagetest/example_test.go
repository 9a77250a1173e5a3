package storagetest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// The test of an implementation of election.Storage.
func ExampleRun() {
	_ = func(t *testing.T) { // TestMyStorage
		storagetest.Run(t, func(*testing.T) (a, b election.Storage) {
			memory := storagetest.NewMemory() // open yours twice here, with t.TempDir and t.Cleanup
			return memory, memory.Handle()
		})
	}
}

// The test of a callback: it fails, with its world's seed, if the callback takes longer than a second to
// return once its ctx has ended, or leaves a goroutine behind.
func ExampleSimulate() {
	work := func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Minute): // virtual time
			}
		}
	}
	_ = func(t *testing.T) { // TestMyCallback
		storagetest.Simulate(t, storagetest.Simulation{
			Callback:   func(ctx context.Context, _ string) error { return work(ctx) },
			StopWithin: time.Second,
		})
	}
}

// A storage that refuses every call, for the test of what a program does then.
func ExampleWithFaults() {
	storage := storagetest.WithFaults(storagetest.NewMemory(), storagetest.Faults{Refused: 1}, 1)
	_, err := storage.Get(context.Background())
	fmt.Println("refused:", err != nil)
	// Output: refused: true
}

// The reference storage can be looked into, and a backup be restored: here one without a record.
func ExampleMemory() {
	ctx := context.Background()
	memory := storagetest.NewMemory()
	_ = memory.Update(ctx, &election.Record{LeaderID: "a", Term: 7}, true)
	fmt.Println(memory.Rows().Leader.LeaderID, memory.Rows().Leader.Term)

	rows := memory.Rows()
	rows.Record = nil
	memory.SetRows(rows)
	record, _ := memory.Handle().Get(ctx)
	fmt.Printf("%q %d\n", record.LeaderID, record.Term) // the leader row still knows the term
	// Output:
	// a 7
	// "" 7
}

package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // or the driver of the database you run

	"github.com/sqlelect/election"
)

// Every replica of a service runs this; one of them at a time writes reports.
func Example_embed() {
	dir, _ := os.MkdirTemp("", "election")
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())

	// embed begins
	db, err := sql.Open("sqlite", filepath.Join(dir, "service.db")) // the *sql.DB your service has
	if err != nil {
		panic(err)
	}
	defer db.Close()
	storage, err := election.NewSQLStorage(db, "") // creates the table "election" if need be
	if err != nil {
		panic(err)
	}
	_, err = db.Exec(`CREATE TABLE IF NOT EXISTS reports (author TEXT)`)
	if err != nil {
		panic(err)
	}
	elector, err := election.NewElector(election.Config{
		ID:      "replica-1", // unique: a host or pod name
		Storage: storage,
		LeaderCallback: func(ctx context.Context) error { // runs while this replica leads
			err := storage.TxnWithLeaderLock(ctx, "replica-1", func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, `INSERT INTO reports VALUES ('replica-1')`)
				return err
			}) // committed only if replica-1 still leads, in the same term
			fmt.Println("report written:", err == nil)
			stop()       // this example ends here; a service goes on with its work
			<-ctx.Done() // the leadership has ended: return promptly
			return nil
		},
	})
	if err != nil {
		panic(err)
	}
	err = elector.RunElection(ctx) // until ctx ends; hands the leadership over first
	// embed ends

	fmt.Println("stopped:", errors.Is(err, context.Canceled))
	// Output:
	// report written: true
	// stopped: true
}

//go:build unix

package election_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	_ "modernc.org/sqlite" // or the driver of the database you run

	"github.com/sqlelect/election"
)

// embed begins

// serve is what every replica of a service runs. One replica at a time bills.
func serve(db *sql.DB, replica string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	storage, err := election.NewSQLStorage(db, "") // creates the table "election" where it is missing
	if err != nil {
		return err
	}
	storage = storage.Election("billing") // the name of this election: one table holds many
	elector, err := election.NewElector(election.Config{
		ID:      replica, // unique among the replicas: a host or pod name
		Storage: storage,
		LeaderCallback: func(ctx context.Context) error { // runs while this replica leads, then ctx ends
			for ctx.Err() == nil {
				err := storage.TxnWithLeaderLock(ctx, replica, billNextCustomer) // commits only while it leads
				if err != nil && !election.IsRetryable(err) {
					return err // this replica gives the leadership up, and campaigns again two polls later
				}
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	err = elector.RunElection(ctx) // until SIGTERM: then it hands the leadership over
	if err == context.Canceled {   // it stopped as it was asked to
		return nil
	}
	return err
}

// embed ends

var billed int

// billNextCustomer does its work on the transaction that it is given. A service's own would wait
// here, or in the loop above, while no customer is due.
func billNextCustomer(tx *sql.Tx) error {
	if billed++; billed == 3 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM) // the replica is asked to stop
	}
	_, err := tx.Exec(`INSERT INTO bills (customer) VALUES (?)`, billed)
	return err
}

func Example_embed() {
	dir, _ := os.MkdirTemp("", "election")
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", filepath.Join(dir, "service.db"))
	if err != nil {
		panic(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE bills (customer INTEGER)`); err != nil {
		panic(err)
	}
	err = serve(db, "replica-1")
	fmt.Println("stopped by a signal:", err)
	var bills int
	_ = db.QueryRow(`SELECT count(*) FROM bills`).Scan(&bills)
	fmt.Println("billed before:", bills >= 2)
	// Output:
	// stopped by a signal: <nil>
	// billed before: true
}

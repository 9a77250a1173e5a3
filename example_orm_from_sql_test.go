package election_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"gorm.io/gorm"

	"github.com/sqlelect/election"
)

// A program that has a *sql.DB gets guarded transactions of gorm's, too; the engine is detected.
func ExampleNewORMStorageFromSQLDB() {
	dir, _ := os.MkdirTemp("", "election")
	defer os.RemoveAll(dir)
	db, _ := sql.Open("sqlite", filepath.Join(dir, "service.db"))
	defer db.Close() // the storage never closes what it was given
	storage, err := election.NewORMStorageFromSQLDB(db, "")
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var one int
	elector, _ := election.NewElector(election.Config{
		ID: "replica-1", Storage: storage.Election("reports"),
		LeaderCallback: func(ctx context.Context) error {
			defer stop()
			return storage.Election("reports").TxnWithLeaderLock(ctx, "replica-1", func(tx *gorm.DB) error {
				return tx.Raw(`SELECT 1`).Scan(&one).Error
			})
		},
	})
	_ = elector.RunElection(ctx)
	fmt.Println("read under the guard:", one)
	// Output: read under the guard: 1
}

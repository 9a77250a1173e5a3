package election_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sqlelect/election"
)

// The storage uses the service's own database handle, creates its table there, and holds any number of
// elections in it.
func ExampleNewSQLStorage() {
	dir, _ := os.MkdirTemp("", "election")
	defer os.RemoveAll(dir)
	db, _ := sql.Open("sqlite", filepath.Join(dir, "service.db"))
	defer db.Close()

	storage, err := election.NewSQLStorage(db, "") // the default table, election
	if err != nil {
		panic(err)
	}
	defer storage.Close() // the handle stays open
	invoices := storage.Election("invoices").WithGuardTimeout(2 * time.Second)

	record, err := invoices.Get(context.Background())
	fmt.Printf("leader %q, term %d, error %v\n", record.LeaderID, record.Term, err)
	// Output: leader "", term 0, error <nil>
}

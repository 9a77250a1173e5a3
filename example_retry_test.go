package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sqlelect/election"
)

// pay changes a balance while replica-1 leads. After a conflict with another transaction it tries again, which
// is safe: nothing of the lost attempt was committed.
func pay(ctx context.Context, storage *election.SQLStorage, amount int) error {
	for {
		err := storage.TxnWithLeaderLock(ctx, "replica-1", func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE accounts SET balance = balance + ?`, amount)
			return err
		})
		switch {
		case election.IsRetryable(err):
			continue
		case errors.Is(err, election.ErrOutcomeUnknown):
			// COMMIT was sent, and no answer came: somebody must look before it is done again.
			return fmt.Errorf("pay %d: %w", amount, err)
		default:
			return err // nil, ErrNotLeader, the function's own error, or ctx's
		}
	}
}

// A conflict is tried again; an unknown outcome is not.
func ExampleSQLStorage_TxnWithLeaderLock() {
	dir, _ := os.MkdirTemp("", "election")
	defer os.RemoveAll(dir)
	db, _ := sql.Open("sqlite", filepath.Join(dir, "bank.db"))
	defer db.Close()
	_, _ = db.Exec(`CREATE TABLE accounts AS SELECT 0 AS balance`)
	storage, err := election.NewSQLStorage(db, "")
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	elector, _ := election.NewElector(election.Config{
		ID: "replica-1", Storage: storage,
		LeaderCallback: func(ctx context.Context) error {
			defer stop()
			return pay(ctx, storage, 5)
		},
	})
	_ = elector.RunElection(ctx)

	err = pay(context.Background(), storage, 100)
	fmt.Println("refused after the election:", errors.Is(err, election.ErrNotLeader))
	var balance int
	_ = db.QueryRow(`SELECT balance FROM accounts`).Scan(&balance)
	fmt.Println("balance:", balance)
	// Output:
	// refused after the election: true
	// balance: 5
}

// Command program is a service that elects on PostgreSQL, and keeps files of its own by an SQLite
// driver that takes the same name as the library's, "sqlite". A program cannot link both: it
// panics before main. Built with the tag no_sqlite, the library links none.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	_ "github.com/glebarez/go-sqlite" // the driver "sqlite"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/sqlelect/election"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	own, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }()
	if err := own.PingContext(ctx); err != nil {
		return err
	}
	db, err := sql.Open("pgx", os.Getenv("ELECTION_DSN"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	storage, err := election.NewSQLStorage(db, "")
	if err != nil {
		return err
	}
	committed := errors.New("committed")
	var outcome error
	elector, err := election.NewElector(election.Config{
		ID: "a", Storage: storage,
		LeaderCallback: func(ctx context.Context) error {
			outcome = storage.TxnWithLeaderLock(ctx, "a", func(*sql.Tx) error { return nil })
			if outcome == nil {
				outcome = committed
			}
			cancel()
			return nil
		},
	})
	if err != nil {
		return err
	}
	_ = elector.RunElection(ctx)
	if outcome != committed {
		return fmt.Errorf("no guarded transaction: %w", outcome)
	}
	if _, err := election.NewInMemorySQLStorage("x", ""); err == nil {
		return errors.New("a storage on SQLite was opened")
	} else {
		fmt.Println("in memory:", err)
	}
	fmt.Println("led and committed")
	return nil
}

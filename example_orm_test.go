package election_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/sqlelect/election"
)

// Invoice is a table of the program's own.
type Invoice struct {
	ID       uint
	Customer string
}

// With gorm: the guarded transaction is a *gorm.DB.
func ExampleORMStorage_TxnWithLeaderLock() {
	dir, _ := os.MkdirTemp("", "election")
	defer os.RemoveAll(dir)
	db, err := gorm.Open(sqlite.Dialector{DriverName: "sqlite", DSN: filepath.Join(dir, "service.db")},
		&gorm.Config{Logger: logger.Discard})
	if err != nil {
		panic(err)
	}
	sqlDB, _ := db.DB()
	defer sqlDB.Close()
	_ = db.AutoMigrate(&Invoice{})
	storage, err := election.NewORMStorage(db, "")
	if err != nil {
		panic(err)
	}
	write := func(ctx context.Context) error {
		return storage.TxnWithLeaderLock(ctx, "replica-1", func(tx *gorm.DB) error {
			return tx.Create(&Invoice{Customer: "Ada"}).Error
		})
	}
	fmt.Println("before anybody leads:", errors.Is(write(context.Background()), election.ErrNotLeader))

	ctx, stop := context.WithCancel(context.Background())
	elector, _ := election.NewElector(election.Config{
		ID: "replica-1", Storage: storage,
		LeaderCallback: func(ctx context.Context) error {
			defer stop()
			return write(ctx)
		},
	})
	_ = elector.RunElection(ctx)
	var invoices int64
	db.Model(&Invoice{}).Count(&invoices)
	fmt.Println("invoices:", invoices)
	// Output:
	// before anybody leads: true
	// invoices: 1
}

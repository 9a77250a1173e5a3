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

// With gorm: the guarded transaction is a *gorm.DB.
func ExampleORMStorage_TxnWithLeaderLock() {
	dir, _ := os.MkdirTemp("", "election")
	defer os.RemoveAll(dir)
	db, err := gorm.Open(sqlite.Dialector{DriverName: "sqlite", DSN: filepath.Join(dir, "service.db")},
		&gorm.Config{Logger: logger.Discard})
	if err != nil {
		panic(err)
	}
	storage, err := election.NewORMStorage(db, "")
	if err != nil {
		panic(err)
	}
	nothing := func(*gorm.DB) error { return nil }
	err = storage.TxnWithLeaderLock(context.Background(), "replica-1", nothing)
	fmt.Println("nobody leads yet:", errors.Is(err, election.ErrNotLeader))

	_ = storage.Update(context.Background(), &election.Record{LeaderID: "replica-1", Term: 1}, true)
	var row election.DO
	err = storage.TxnWithLeaderLock(context.Background(), "replica-1", func(tx *gorm.DB) error {
		return tx.First(&row, 1).Error
	})
	fmt.Println(row.Record.LeaderID, row.Version, err)
	sqlDB, _ := db.DB()
	_ = sqlDB.Close()
	// Output:
	// nobody leads yet: true
	// replica-1 1 <nil>
}

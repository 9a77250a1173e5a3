package election

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// TableNameElection is the table of every storage that is given no name. The library never changes
// this variable. A program may set it before it makes its first storage.
var TableNameElection = "election"

// SQLStorage keeps elections in a table of an SQL database, through database/sql. Any number of
// storages, of this kind and of ORMStorage, in any number of processes, may share one table. Safe
// for concurrent use.
//
// Supported engines and their drivers:
//
//   - SQLite: modernc.org/sqlite, or github.com/mattn/go-sqlite3 with cgo
//   - MariaDB: github.com/go-sql-driver/mysql; on a Galera cluster members may work on any node
//   - MySQL: the same driver; by MySQL's documentation alone, never run
//   - PostgreSQL: github.com/jackc/pgx/v5
//
// Other engines are refused, also those that speak the protocol of one of these.
type SQLStorage struct {
	rows         electionRows
	guardTimeout time.Duration
	close        func() error // closes what the library opened; nil if that is nothing
}

var (
	_ MemberStorage = (*SQLStorage)(nil)
	_ Watcher       = (*SQLStorage)(nil)
	_ scoped        = (*SQLStorage)(nil)
)

// NewSQLStorage returns the storage of the election named "" in the table tableName. An empty
// tableName means TableNameElection. The name is one identifier, quoted as it is, never
// schema.table. The caller keeps db and closes it when all storages are done.
//
// NewSQLStorage detects the engine, creates the table if it is missing, and adds the columns that a
// table of the four-column version lacks. Any number of members may do so at once. If the columns
// cannot be added, the table stays as it is, and only the election named "" works there.
//
// It blocks for a connection and up to six round trips (seven to grow a four-column table), each
// for at most 10 s. It returns an error
//
//   - if the database cannot be reached, or its engine is not supported
//   - if the table is not one of this library's, or the guard would not hold on it or in db's
//     sessions
//   - wrapping ErrSchema, if the table is missing and cannot be created
//   - on an SQLite file, if this process has an open handle with a storage on the file through
//     another driver: two SQLite libraries drop each other's locks
func NewSQLStorage(db *sql.DB, tableName string) (*SQLStorage, error) {
	rows, err := openRows(db, tableName, "")
	if err != nil {
		return nil, fmt.Errorf("election: open SQL storage: %w", err)
	}
	return &SQLStorage{rows: rows, guardTimeout: DefaultGuardTimeout}, nil
}

// NewInMemorySQLStorage returns the storage of the election named "" in the table tableName of an
// SQLite database in this process's memory. Storages with one dbName share their data, which lives
// until the last one is closed (see Close). It returns an error if dbName is empty, and in a
// program built with the tag no_sqlite.
func NewInMemorySQLStorage(dbName, tableName string) (*SQLStorage, error) {
	s, err := openInMemory(dbName, tableName)
	if err != nil {
		return nil, fmt.Errorf("election: open in-memory storage: %w", err)
	}
	return s, nil
}

func openInMemory(dbName, tableName string) (*SQLStorage, error) {
	if err := sqldb.MemoryLeftOut(); err != nil {
		return nil, err
	}
	driverName, source, err := sqldb.MemoryDSN(dbName)
	if err != nil {
		return nil, fmt.Errorf("dbName: %w", err)
	}
	db, err := sql.Open(driverName, source)
	if err != nil {
		return nil, err
	}
	// SQLite drops the database when its last connection is closed. The pool may close any of its
	// own connections, so this one stays open.
	keep, err := db.Conn(context.Background())
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	closeAll := func() error { return errors.Join(ignoreDone(keep.Close()), db.Close()) }
	rows, err := openRows(db, tableName, dialect.MemoryIdentity(dbName))
	if err != nil {
		return nil, errors.Join(err, closeAll())
	}
	return &SQLStorage{rows: rows, guardTimeout: DefaultGuardTimeout, close: closeAll}, nil
}

// ignoreDone drops the error of closing a connection that is closed already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrConnDone) {
		return nil
	}
	return err
}

// Election returns the storage of the election called name in the same table. The name has at most
// 191 bytes of valid UTF-8 without NUL, and is compared byte for byte. The empty name is the
// constructor's election. Election runs no statement. Each call on the storage returns an error if
// the name is bad, and one wrapping ErrSchema if the table cannot tell elections apart.
func (s *SQLStorage) Election(name string) *SQLStorage {
	c := *s
	c.rows = s.rows.named(name)
	return &c
}

// WithGuardTimeout returns a copy whose guarded transactions may take at most d, from the call of
// TxnWithLeaderLock to COMMIT. A d ≤ 0 means DefaultGuardTimeout; more than 24 days means 24 days.
func (s *SQLStorage) WithGuardTimeout(d time.Duration) *SQLStorage {
	c := *s
	c.guardTimeout = guardTimeoutOf(d)
	return &c
}

// WithoutWakeUps returns a copy whose Watch only returns an error that wraps errors.ErrUnsupported,
// which Status shows as WatchErr. Members on the copy poll, so a hand-over takes up to a
// RenewInterval. Other members still hear of this member's changes, but on MariaDB and MySQL a
// little later. It is for
//
//   - a database that goes to sleep when no statement comes
//   - a pool without a connection to spare
//   - a tracer that would show each look for a change
func (s *SQLStorage) WithoutWakeUps() *SQLStorage {
	c := *s
	c.rows = s.rows.asleep()
	return &c
}

// Get implements Storage, by one statement. While the database is locked, Get tries again until ctx
// ends; without a deadline in ctx, for 10 s.
func (s *SQLStorage) Get(ctx context.Context) (*Record, error) { return s.rows.get(ctx) }

// Update implements Storage: one statement for a renewal, one transaction for
// a change of leader. It retries like Get.
func (s *SQLStorage) Update(ctx context.Context, record *Record, isLeaderChanged bool) error {
	return s.rows.update(ctx, record, isLeaderChanged)
}

// Watch implements Watcher. All watchers on one *sql.DB share one connection of its pool. The pool
// must allow at least two connections. When its limit is lowered to one, the watchers give their
// connection back. How a change is noticed:
//
//   - PostgreSQL: by a notification, which is part of the change. It needs
//     github.com/jackc/pgx/v5/stdlib, and no pooler in between that swallows notifications.
//   - SQLite: by a look at the file every 5 ms (in memory every 20 ms). Members in the process of
//     the change hear of it at once.
//   - MariaDB and MySQL: by waiting for a named lock, which the leader's process holds while it
//     leads and watches. The lock takes one more connection there, of a pool of at least three.
//     Where there is no lock, or more than one election is watched, the leader rows are read every
//     20 ms.
//   - MariaDB Galera Cluster: by reading the leader rows every 20 ms.
func (s *SQLStorage) Watch(ctx context.Context, changed func()) error {
	return s.rows.Watch(ctx, changed)
}

// GetMembers implements MemberStorage, by one statement that reads member rows alone. It retries
// like Get.
func (s *SQLStorage) GetMembers(ctx context.Context, ids ...string) ([]*Member, error) {
	return s.rows.getMembers(ctx, ids)
}

// UpdateMember implements MemberStorage, by one statement. A new entry whose row's id is taken
// needs more. It retries like Get.
func (s *SQLStorage) UpdateMember(ctx context.Context, before, after *Member) error {
	return s.rows.updateMember(ctx, before, after)
}

// UpdateWithMember implements MemberStorage: one transaction.
func (s *SQLStorage) UpdateWithMember(ctx context.Context, record *Record, isLeaderChanged bool, before, after *Member) error {
	return s.rows.updateWithMember(ctx, record, isLeaderChanged, before, after)
}

// Close closes the database that NewInMemorySQLStorage opened, for this storage and all storages
// derived from the same one. A database in memory is freed when no other storage has it open. On a
// storage of NewSQLStorage Close does nothing. It may be called again, and then returns nil.
func (s *SQLStorage) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

func (s *SQLStorage) scope() string { return s.rows.Scope() }

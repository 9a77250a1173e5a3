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

// TableNameElection is the table that storages use when they are given no
// name. The library never writes it; programs set it, if at all, before they
// make their first storage.
var TableNameElection = "election"

// SQLStorage keeps elections in a table of an SQL database, through
// database/sql. Any number of storages, of this kind and of ORMStorage, in any
// number of processes, may share one table. Safe for concurrent use.
//
// Supported: SQLite (modernc.org/sqlite, or mattn/go-sqlite3 with cgo), MariaDB
// (github.com/go-sql-driver/mysql) and PostgreSQL (github.com/jackc/pgx/v5); MySQL
// as documented, without having been run. On a MariaDB Galera cluster members may
// work on any of its nodes. Other engines, also those that speak the protocol of
// one of these, are refused.
type SQLStorage struct {
	rows         electionRows
	guardTimeout time.Duration
	close        func() error // nil when the library opened nothing
}

var (
	_ MemberStorage = (*SQLStorage)(nil)
	_ Watcher       = (*SQLStorage)(nil)
	_ scoped        = (*SQLStorage)(nil)
)

// NewSQLStorage returns the storage of the election named "" in the table
// tableName (empty: TableNameElection). The name is one identifier, quoted as
// it is, never schema.table.
//
// It detects the engine, creates the table where it is missing and adds what
// an older version's table lacks; any number of members may do so at once.
// Where it may not add columns it leaves the table as it is: then only the
// election named "" works. It returns an error when the database cannot be
// reached or the table is not one of this library's. It blocks for a connection and up to
// six round trips (seven to grow an older table), each for at most 10 s. On an SQLite
// file it also returns one when this process has an open handle with a storage on the file through
// another driver: two SQLite libraries drop each other's locks.
//
// The caller keeps db and closes it when all storages are done.
func NewSQLStorage(db *sql.DB, tableName string) (*SQLStorage, error) {
	rows, err := openRows(db, tableName, "")
	if err != nil {
		return nil, fmt.Errorf("election: open SQL storage: %w", err)
	}
	return &SQLStorage{rows: rows, guardTimeout: DefaultGuardTimeout}, nil
}

// NewInMemorySQLStorage returns the storage of the election named "" in the
// table tableName of an SQLite database in this process's memory. Two storages
// with one dbName share their data, which lives until the last one is closed.
// An empty dbName is an error, and so is a program built with the tag no_sqlite. Close frees the database.
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
	// SQLite drops the database with its last connection, and the pool may close
	// any of its own.
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

// ignoreDone makes a second Close as good as the first.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrConnDone) {
		return nil
	}
	return err
}

// Election returns the storage of the election called name in the same table:
// at most 191 bytes of valid UTF-8 without NUL, compared byte for byte. The
// empty name is the constructor's. It costs nothing until its first use, which
// returns an error for a bad name, and ErrSchema when the table cannot tell
// elections apart.
func (s *SQLStorage) Election(name string) *SQLStorage {
	c := *s
	c.rows = s.rows.named(name)
	return &c
}

// WithGuardTimeout returns a copy whose guarded transactions may take at most d
// (≤ 0: DefaultGuardTimeout; more than 24 days: 24 days), from the call of
// TxnWithLeaderLock to COMMIT.
func (s *SQLStorage) WithGuardTimeout(d time.Duration) *SQLStorage {
	c := *s
	c.guardTimeout = guardTimeoutOf(d)
	return &c
}

// WithoutWakeUps returns a copy whose Watch does nothing but to return an error that wraps
// errors.ErrUnsupported, which Status shows as WatchErr: members poll, and a hand-over takes
// up to a RenewInterval. It is for databases that go to sleep when nobody asks them, for
// pools without a connection to spare, and for tracers that would show each look for a
// change. Others still hear of this member's changes, but on MariaDB and MySQL a little later.
func (s *SQLStorage) WithoutWakeUps() *SQLStorage {
	c := *s
	c.rows = s.rows.asleep()
	return &c
}

// Get implements Storage: one statement. While the database is locked it
// tries again until ctx ends (without a deadline, for 10 s).
func (s *SQLStorage) Get(ctx context.Context) (*Record, error) { return s.rows.get(ctx) }

// Update implements Storage: one statement for a renewal, one transaction for
// a change of leader. It retries like Get.
func (s *SQLStorage) Update(ctx context.Context, record *Record, isLeaderChanged bool) error {
	return s.rows.update(ctx, record, isLeaderChanged)
}

// Watch implements Watcher. All watchers on one *sql.DB share one connection of
// its pool, which must allow at least two, and they give that back when the limit is
// lowered to one. On PostgreSQL it listens for a
// notification that is part of the change, for which it needs
// github.com/jackc/pgx/v5/stdlib and no pooler in between that swallows it. On
// SQLite it looks every 5 ms (every 20 ms in memory) whether the file has
// changed, and members in the same process do not wait for that. On MariaDB and MySQL it waits
// for a named lock, which the leader's process holds for as long as it leads and
// watches, too, on one more connection of a pool of at least three; where there is
// none, or more than one election is watched, and on a Galera cluster, it reads the
// leader rows every 20 ms.
func (s *SQLStorage) Watch(ctx context.Context, changed func()) error {
	return s.rows.Watch(ctx, changed)
}

// GetMembers implements MemberStorage: one statement, that looks at member rows
// alone. It retries like Get.
func (s *SQLStorage) GetMembers(ctx context.Context, ids ...string) ([]*Member, error) {
	return s.rows.getMembers(ctx, ids)
}

// UpdateMember implements MemberStorage: one statement for a renewal or removal, one
// transaction for a new entry. It retries like Get.
func (s *SQLStorage) UpdateMember(ctx context.Context, before, after *Member) error {
	return s.rows.updateMember(ctx, before, after)
}

// UpdateWithMember implements MemberStorage: one transaction.
func (s *SQLStorage) UpdateWithMember(ctx context.Context, record *Record, isLeaderChanged bool, before, after *Member) error {
	return s.rows.updateWithMember(ctx, record, isLeaderChanged, before, after)
}

// Close frees what NewInMemorySQLStorage opened, for all storages derived from
// this one; on any other storage it does nothing. It may be called again.
func (s *SQLStorage) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

func (s *SQLStorage) scope() string { return s.rows.Scope() }

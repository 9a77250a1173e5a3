//go:build !no_gorm

package election

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// DO is a row of the election table as gorm sees it, for programs that read the table themselves.
// Row 1 holds the record of the election named "". Row 2 holds its leader and, as Version, its
// term.
//
// AutoMigrate of DO changes nothing in a table that a constructor has made. If there is no table,
// it makes one for the election named "", which the constructors complete.
type DO struct {
	// AutoMigrate alters each column whose type gorm would not have chosen, and gorm has no type
	// that is the constructors' on every engine. So AutoMigrate sees the column id alone. When it
	// makes the table, the other columns come along as a part of the type of id. MySQL and MariaDB
	// alone read the text between /*! and */: there leader_id becomes varbinary(255), and record a
	// longtext that holds any character.
	ID uint32 `gorm:"column:id;primaryKey;autoIncrement:false;type:bigint NOT NULL,leader_id varchar(255) /*!CHARACTER SET binary*/ NOT NULL,record text /*!(1073741823) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin*/,version bigint NOT NULL"`

	LeaderID string  `gorm:"column:leader_id;-:migration"`
	Record   *Record `gorm:"column:record;-:migration"`
	Version  uint64  `gorm:"column:version;-:migration"`
}

// TableName makes gorm read DO from the default table.
func (DO) TableName() string { return TableNameElection }

// ORMStorage is SQLStorage for programs that use gorm. It uses the same table, and the function of
// a guarded transaction gets a *gorm.DB. Safe for concurrent use.
type ORMStorage struct {
	rows         electionRows
	db           *gorm.DB
	guardTimeout time.Duration
}

var (
	_ MemberStorage = (*ORMStorage)(nil)
	_ Watcher       = (*ORMStorage)(nil)
	_ scoped        = (*ORMStorage)(nil)
)

// NewORMStorage is NewSQLStorage for a *gorm.DB, which must not be a transaction. The caller keeps
// db.
func NewORMStorage(db *gorm.DB, tableName string) (*ORMStorage, error) {
	s, err := openORM(db, tableName)
	if err != nil {
		return nil, fmt.Errorf("election: open ORM storage: %w", err)
	}
	return s, nil
}

func openORM(db *gorm.DB, tableName string) (*ORMStorage, error) {
	if db == nil || db.Statement == nil {
		return nil, errors.New("the *gorm.DB must not be nil, and must come from gorm.Open")
	}
	// On a transaction, a rollback would undo what elections have written.
	if _, inTransaction := db.Statement.ConnPool.(gorm.TxCommitter); inTransaction {
		return nil, errors.New("the *gorm.DB is a transaction; pass the one it was begun on")
	}
	pool, err := db.DB()
	if err != nil {
		return nil, fmt.Errorf("find the database handle: %w", err)
	}
	rows, err := openRows(pool, tableName, "")
	if err != nil {
		return nil, err
	}
	return &ORMStorage{rows: rows, db: db, guardTimeout: DefaultGuardTimeout}, nil
}

// NewORMStorageFromSQLDB is NewORMStorage for a *sql.DB. It makes a *gorm.DB for the engine that it
// detects, which logs nothing. The caller keeps backendDB and closes it when all storages are done.
func NewORMStorageFromSQLDB(backendDB *sql.DB, tableName string) (*ORMStorage, error) {
	s, err := openORMFromSQLDB(backendDB, tableName)
	if err != nil {
		return nil, fmt.Errorf("election: open ORM storage: %w", err)
	}
	return s, nil
}

func openORMFromSQLDB(pool *sql.DB, tableName string) (*ORMStorage, error) {
	rows, err := openRows(pool, tableName, "")
	if err != nil {
		return nil, err
	}
	var db *gorm.DB
	err = sqldb.Step(context.Background(), func(ctx context.Context) (err error) { // gorm asks the database for its version
		db, err = gorm.Open(dialectorFor(rows.Dialect(), lentPool{pool, ctx}), &gorm.Config{Logger: logger.Discard})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open gorm: %w", err)
	}
	db.ConnPool, db.Statement.ConnPool = pool, pool
	return &ORMStorage{rows: rows, db: db, guardTimeout: DefaultGuardTimeout}, nil
}

// lentPool is the caller's *sql.DB as gorm.Open sees it. gorm.Open asks its questions without a
// deadline, and closes a *sql.DB when they fail. A lentPool asks them under ctx, and cannot be
// closed.
type lentPool struct {
	gorm.ConnPool
	ctx context.Context
}

func (p lentPool) QueryRowContext(_ context.Context, query string, args ...any) *sql.Row {
	return p.ConnPool.QueryRowContext(p.ctx, query, args...)
}

func ormRowsOf(s Storage) (electionRows, bool) {
	if s, ok := s.(*ORMStorage); ok {
		return s.rows, true
	}
	return electionRows{}, false
}

// dialectorFor returns gorm's dialector for the engine d.
func dialectorFor(d *dialect.Dialect, pool gorm.ConnPool) gorm.Dialector {
	switch d.Name {
	case "MariaDB", "MySQL", "MariaDB Galera Cluster":
		return mysqlDialector(pool)
	case "PostgreSQL":
		return postgres.New(postgres.Config{Conn: pool})
	}
	return sqliteDialector(pool)
}

// Election is SQLStorage.Election.
func (s *ORMStorage) Election(name string) *ORMStorage {
	c := *s
	c.rows = s.rows.named(name)
	return &c
}

// WithGuardTimeout is SQLStorage.WithGuardTimeout.
func (s *ORMStorage) WithGuardTimeout(d time.Duration) *ORMStorage {
	c := *s
	c.guardTimeout = guardTimeoutOf(d)
	return &c
}

// WithoutWakeUps is SQLStorage.WithoutWakeUps.
func (s *ORMStorage) WithoutWakeUps() *ORMStorage {
	c := *s
	c.rows = s.rows.asleep()
	return &c
}

// Get implements Storage, as SQLStorage does.
func (s *ORMStorage) Get(ctx context.Context) (*Record, error) { return s.rows.get(ctx) }

// Update implements Storage, as SQLStorage does.
func (s *ORMStorage) Update(ctx context.Context, record *Record, isLeaderChanged bool) error {
	return s.rows.update(ctx, record, isLeaderChanged)
}

// Watch implements Watcher, as SQLStorage does.
func (s *ORMStorage) Watch(ctx context.Context, changed func()) error {
	return s.rows.Watch(ctx, changed)
}

// GetMembers implements MemberStorage, as SQLStorage does.
func (s *ORMStorage) GetMembers(ctx context.Context, ids ...string) ([]*Member, error) {
	return s.rows.getMembers(ctx, ids)
}

// UpdateMember implements MemberStorage, as SQLStorage does.
func (s *ORMStorage) UpdateMember(ctx context.Context, before, after *Member) error {
	return s.rows.updateMember(ctx, before, after)
}

// UpdateWithMember implements MemberStorage, as SQLStorage does.
func (s *ORMStorage) UpdateWithMember(ctx context.Context, record *Record, isLeaderChanged bool, before, after *Member) error {
	return s.rows.updateWithMember(ctx, record, isLeaderChanged, before, after)
}

// TxnWithLeaderLock is SQLStorage.TxnWithLeaderLock with a *gorm.DB for fc. The ctx of this
// *gorm.DB ends when ctx ends or the guard timeout has passed. A transaction that fc nests into it
// is a savepoint. As in gorm's Transaction, an error that fc returns rolls back, and an error that
// fc only leaves in tx does not.
func (s *ORMStorage) TxnWithLeaderLock(ctx context.Context, leaderID string, fc func(tx *gorm.DB) error) error {
	if fc == nil {
		return errors.New("election: guarded transaction: the function must not be nil")
	}
	return s.rows.guarded(ctx, leaderID, s.guardTimeout, func(ctx context.Context, tx *sql.Tx) error {
		// With a Context, Session clones the statement. So the pool that is set below stays in this
		// session.
		session := s.db.Session(&gorm.Session{NewDB: true, Context: ctx})
		session.Statement.ConnPool = tx
		session.Error = nil
		return fc(session)
	})
}

func (s *ORMStorage) scope() string { return s.rows.Scope() }

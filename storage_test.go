package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/storagetest"
)

// storageKind is one way to open a storage.
type storageKind struct {
	name string
	open func(db *sql.DB, table, name string) (election.Storage, error)
}

func storageKinds() []storageKind {
	return []storageKind{
		{"SQL", func(db *sql.DB, table, name string) (election.Storage, error) {
			s, err := election.NewSQLStorage(db, table)
			if err != nil {
				return nil, err
			}
			return s.Election(name), nil
		}},
		{"ORM", func(db *sql.DB, table, name string) (election.Storage, error) {
			s, err := election.NewORMStorageFromSQLDB(db, table)
			if err != nil {
				return nil, err
			}
			return s.Election(name), nil
		}},
	}
}

// eachStorage runs a parallel subtest for every database and kind of storage.
func eachStorage(t *testing.T, run func(t *testing.T, db *dbtest.Database, kind storageKind)) {
	t.Helper()
	for _, kind := range storageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, func(t *testing.T, db *dbtest.Database) { run(t, db, kind) })
		})
	}
}

func (k storageKind) must(t testing.TB, db *sql.DB) election.Storage {
	t.Helper()
	s, err := k.open(db, "", "")
	require.NoError(t, err)
	return s
}

func openSQL(t testing.TB, db *sql.DB) *election.SQLStorage {
	t.Helper()
	s, err := election.NewSQLStorage(db, "")
	require.NoError(t, err)
	return s
}

func openORM(t testing.TB, db *sql.DB) *election.ORMStorage {
	t.Helper()
	s, err := election.NewORMStorageFromSQLDB(db, "")
	require.NoError(t, err)
	return s
}

// openGORM is a user's own gorm handle on db.
func openGORM(t testing.TB, db *sql.DB) *gorm.DB {
	t.Helper()
	var dialector gorm.Dialector = sqlite.Dialector{Conn: db}
	switch engine(t, db) {
	case "MariaDB", "MySQL":
		dialector = mysql.New(mysql.Config{Conn: db})
	case "PostgreSQL":
		dialector = postgres.New(postgres.Config{Conn: db})
	}
	g, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	return g
}

// engine is the name of the engine behind db.
func engine(t testing.TB, db *sql.DB) string {
	t.Helper()
	d, err := dialect.Detect(t.Context(), db)
	require.NoError(t, err)
	return d.Name
}

// rebind writes the question marks of query as the database wants them.
func rebind(db *dbtest.Database, query string) string {
	if db.Engine != "postgres" {
		return query
	}
	return dialect.PostgreSQL().Rebind(query)
}

// guarded runs fn under TxnWithLeaderLock of either kind of storage.
func guarded(ctx context.Context, s election.Storage, leaderID string, fn func(tx *sql.Tx) error) error {
	if orm, ok := s.(*election.ORMStorage); ok {
		return orm.TxnWithLeaderLock(ctx, leaderID, func(tx *gorm.DB) error {
			return fn(tx.Statement.ConnPool.(*sql.Tx))
		})
	}
	return s.(*election.SQLStorage).TxnWithLeaderLock(ctx, leaderID, fn)
}

// withGuardTimeout is WithGuardTimeout of either kind of storage.
func withGuardTimeout(s election.Storage, d time.Duration) election.Storage {
	if orm, ok := s.(*election.ORMStorage); ok {
		return orm.WithGuardTimeout(d)
	}
	return s.(*election.SQLStorage).WithGuardTimeout(d)
}

// lead stores a change of leader, in the next term, and returns that term.
func lead(ctx context.Context, s election.Storage, leaderID string) (term uint64, err error) {
	r, err := s.Get(ctx)
	if err != nil {
		return 0, err
	}
	r.LeaderID = leaderID
	if leaderID != "" {
		r.Term++
	}
	return r.Term, s.Update(ctx, r, true)
}

// mustLead is lead, once more if another change came between: one that was given up may still be applied.
func mustLead(t testing.TB, s election.Storage, leaderID string) (term uint64) {
	t.Helper()
	term, err := lead(t.Context(), s, leaderID)
	if errors.Is(err, election.ErrRecordConflict) {
		term, err = lead(t.Context(), s, leaderID)
	}
	require.NoError(t, err)
	return term
}

// inTerm is a ctx that carries a reign.
func inTerm(ctx context.Context, leaderID string, term uint64) context.Context {
	return election.ContextWithLeadership(ctx,
		election.Leadership{Leader: &election.Member{ID: leaderID}, Term: term})
}

// TestStorageContract runs the conformance kit on every database, with every
// kind of storage on either side. All cases of a database share it, half of them
// in tables of their own and half as named elections of one table.
func TestStorageContract(t *testing.T) {
	t.Parallel()
	kinds := storageKinds()
	for _, pair := range [][2]storageKind{{kinds[0], kinds[0]}, {kinds[0], kinds[1]}, {kinds[1], kinds[1]}} {
		t.Run(pair[0].name+"And"+pair[1].name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
				handles := [2]*sql.DB{db.Open(t), db.Open(t)}
				var opened atomic.Int64
				storagetest.Run(t, func(t *testing.T) (a, b election.Storage) {
					table, name := "", ""
					if n := opened.Add(1); n%2 == 0 {
						table = fmt.Sprint("table ", n)
					} else {
						name = fmt.Sprint("election ", n)
					}
					var storages [2]election.Storage
					for i, kind := range pair {
						var err error
						storages[i], err = kind.open(handles[i], table, name)
						require.NoError(t, err)
					}
					return storages[0], storages[1]
				})
			})
		})
	}
}

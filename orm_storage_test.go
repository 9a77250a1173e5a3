package election_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// An election written through one storage is readable through the other.
func TestStoragesShareTheTable(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		s, orm := openSQL(t, db.Open(t)), openORM(t, db.Open(t))
		for i, name := range []string{"", "shard"} {
			a, b := election.Storage(s.Election(name)), election.Storage(orm.Election(name))
			for range 4 {
				mustLead(t, a, "a")
				want, err := a.Get(t.Context())
				require.NoError(t, err)
				got, err := b.Get(t.Context())
				require.NoError(t, err)
				require.Equal(t, want, got, "%d", i)
				a, b = b, a
			}
		}
	})
}

// A database that does not answer gorm's question for its version at once costs the
// caller neither the storage nor the handle.
func TestORMStorageLeavesTheHandleOpen(t *testing.T) {
	for name, tc := range map[string]struct {
		refusals int
		refusal  error
	}{"busy": {3, &mysql.MySQLError{Number: 1213}}, "broken": {1, errors.New("out of order")}} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
				pool, sent := db.OpenCounted(t)
				left, asked := tc.refusals, 0
				sent.Refuse(func(text string) error {
					if text == "SELECT VERSION()" && db.Engine == "mysql" || text == "select sqlite_version()" {
						asked++
						if ours := db.Engine == "mysql" && asked == 1; !ours && left > 0 {
							left--
							return tc.refusal
						}
					}
					return nil
				})
				s, err := election.NewORMStorageFromSQLDB(pool, "")
				switch {
				case db.Engine == "postgres": // gorm asks nothing of it
					require.NoError(t, err)
				case name == "broken":
					require.ErrorIs(t, err, tc.refusal)
				default:
					require.NoError(t, err)
					require.Zero(t, left)
					mustLead(t, s, "a")
				}
				require.NoError(t, pool.Ping())
			})
		})
	}
}

// Whatever state a user's handle is in, the guarded session starts clean and
// leaves it alone.
func TestGORMHandleOfTheUser(t *testing.T) {
	t.Parallel()
	type Entry struct{ ID int }
	for name, config := range map[string]*gorm.Config{
		"Plain": {}, "Prepared": {PrepareStmt: true}, "NoDefaultTransaction": {SkipDefaultTransaction: true},
		"NoNesting": {DisableNestedTransaction: true}, "Translating": {TranslateError: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config.Logger = logger.Discard
			pool := dbtest.SQLite(t).OpenSingle(t)
			g, err := gorm.Open(sqlite.Dialector{Conn: pool}, config)
			require.NoError(t, err)
			require.NoError(t, g.AutoMigrate(&Entry{}))
			dirty := g.Where("id = 17")
			_ = dirty.AddError(errors.New("an earlier error"))
			s, err := election.NewORMStorage(dirty, "")
			require.NoError(t, err)
			mustLead(t, s, "a")
			require.NoError(t, s.TxnWithLeaderLock(t.Context(), "a", func(tx *gorm.DB) error {
				return errors.Join(tx.Create(&Entry{1}).Error, tx.Transaction(func(nested *gorm.DB) error {
					return nested.Create(&Entry{2}).Error
				}))
			}))
			var n int64
			require.NoError(t, g.Model(&Entry{}).Count(&n).Error)
			assert.Equal(t, int64(2), n)
		})
	}
}

// The usual way to open gorm on SQLite.
func TestGORMOpen(t *testing.T) {
	t.Parallel()
	g, err := gorm.Open(sqlite.Open(filepath.Join(t.TempDir(), "x.db")), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Skipf("that driver needs cgo: %v", err)
	}
	pool, err := g.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	s, err := election.NewORMStorage(g, "")
	require.NoError(t, err)
	mustLead(t, s, "a")
	require.NoError(t, s.TxnWithLeaderLock(t.Context(), "a", func(tx *gorm.DB) error { return tx.Exec("CREATE TABLE t (x)").Error }))
	require.ErrorIs(t, s.TxnWithLeaderLock(t.Context(), "a", func(tx *gorm.DB) error {
		return tx.Exec("COMMIT").Error
	}), election.ErrTxnEnded)
}

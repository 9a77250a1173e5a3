package election_test

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

func TestTrap23TableNames(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		first, second := db.Open(t), db.Open(t)
		names := []string{
			"select", "Table", "with space", `qu"ote`, "back`tick", "apo'strophe", "semi;colon--", "per%cent ? $1",
			"schema.table", "[x]", "näme", strings.Repeat("n", 63),
		}
		impossible := []string{strings.Repeat("n", 300), "nul\x00", "\xff"}
		switch lions := []string{"näme 🦁", " "}; db.Engine {
		case "mysql": // names end in no space, and in no character beyond U+FFFF
			impossible = append(impossible, lions...)
			impossible = append(impossible, strings.Repeat("ü", 65))
			names = append(names, strings.Repeat("ü", 64))
		case "postgres": // a longer one would be cut
			impossible = append(impossible, strings.Repeat("n", 64))
			names = append(names, lions...)
		default:
			names = append(names, lions...)
		}
		for _, name := range names {
			s, err := kind.open(first, name, "")
			require.NoError(t, err, name)
			mustLead(t, s, "a")
			again, err := kind.open(second, name, "")
			require.NoError(t, err, name)
			r, err := again.Get(t.Context())
			require.NoError(t, err, name)
			require.Equal(t, "a", r.LeaderID, name)
			require.NoError(t, guarded(t.Context(), again, "a", func(*sql.Tx) error { return nil }), name)
			shard, err := kind.open(second, name, "shard")
			require.NoError(t, err, name)
			mustLead(t, shard, "b")
		}
		for _, name := range impossible {
			_, err := kind.open(first, name, "")
			require.ErrorContains(t, err, "table name must", name)
		}
	})
}

func TestTrap23ElectionNames(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle, ctx := db.Open(t), t.Context()
		names := []string{"", " ", "a", "A", "a ", "á", "a\u0301", "'\"`;", "%", "_", "1", "01", "NULL", strings.Repeat("🦁", 47) + "abc"}
		for i, name := range names {
			s, err := kind.open(handle, "", name)
			require.NoError(t, err)
			for range i + 1 {
				mustLead(t, s, fmt.Sprint("leader of ", name))
			}
		}
		for i, name := range names {
			s, err := kind.open(handle, "", name)
			require.NoError(t, err)
			r, err := s.Get(ctx)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("leader of ", name), r.LeaderID)
			require.Equal(t, uint64(i+1), r.Term, name)
		}
		for _, name := range []string{strings.Repeat("n", 192), "nul\x00", "\xff"} {
			s, err := kind.open(handle, "", name)
			require.NoError(t, err, "a bad name is an error at first use")
			_, err = s.Get(ctx)
			require.ErrorContains(t, err, "election name must")
			require.ErrorContains(t, s.Update(ctx, new(election.Record), true), "election name must")
			require.ErrorContains(t, guarded(ctx, s, "a", func(*sql.Tx) error { return nil }), "election name must")
		}
		assert.Equal(t, 2*len(names), dbtest.Count(t, handle, "election"), "nothing is half-written")
	})
}

// Members that start at once all find or make the one table.
func TestConcurrentConstructors(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		for _, older := range []bool{false, true} {
			db := db.Fresh(t)
			if older {
				dbtest.Exec(t, db.Open(t), "CREATE TABLE election (id INTEGER PRIMARY KEY, leader_id VARCHAR(255), record TEXT, version BIGINT)")
			}
			var done sync.WaitGroup
			for i := range 20 {
				handle := db.Open(t)
				done.Go(func() {
					s, err := kind.open(handle, "", "shard")
					if assert.NoError(t, err) {
						_, err = lead(t.Context(), s, fmt.Sprint("m", i))
						assert.True(t, err == nil || strings.Contains(err.Error(), election.ErrRecordConflict.Error()), "%v", err)
					}
				})
			}
			done.Wait()
			assert.Equal(t, 2, dbtest.Count(t, db.Open(t), "election"))
		}
	})
}

const childDSN = "ELECTION_TEST_CHILD_DSN"

// TestConstructorChild is one of the processes of TestConcurrentProcesses.
func TestConstructorChild(t *testing.T) {
	dsn := os.Getenv(childDSN)
	if dsn == "" {
		t.Skip("run by TestConcurrentProcesses")
	}
	db, err := sql.Open("sqlite", dsn)
	require.NoError(t, err)
	s := openSQL(t, db)
	for range 10 {
		_, err := lead(t.Context(), s, "child")
		if err != nil {
			require.ErrorIs(t, err, election.ErrRecordConflict)
		}
	}
}

func TestConcurrentProcesses(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	var done sync.WaitGroup
	for range 6 {
		done.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run=^TestConstructorChild$")
			cmd.Env = append(os.Environ(), childDSN+"="+db.DSN)
			out, err := cmd.CombinedOutput()
			assert.NoError(t, err, "%s", out)
		})
	}
	done.Wait()
	r, err := openSQL(t, db.Open(t)).Get(t.Context())
	require.NoError(t, err)
	assert.Equal(t, uint64(r.Version), r.Term, "every acquisition has its term")
}

func TestConstructorErrors(t *testing.T) {
	t.Parallel()
	var nobody *sql.DB
	for _, kind := range storageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			_, err := kind.open(nobody, "", "")
			require.ErrorContains(t, err, "must not be nil")

			closed := dbtest.SQLite(t).Open(t)
			require.NoError(t, closed.Close())
			_, err = kind.open(closed, "", "")
			require.ErrorContains(t, err, "connect to the database")

			nowhere, err := sql.Open("sqlite", "file:"+filepath.ToSlash(t.TempDir())+"/no/such/dir/x.db")
			require.NoError(t, err)
			t.Cleanup(func() { _ = nowhere.Close() })
			_, err = kind.open(nowhere, "", "")
			require.ErrorContains(t, err, "connect to the database")

			foreign := dbtest.SQLite(t).Open(t)
			dbtest.Exec(t, foreign, "CREATE TABLE election (id INTEGER PRIMARY KEY, leader_id TEXT, payload TEXT)")
			_, err = kind.open(foreign, "", "")
			require.ErrorContains(t, err, "lacks the columns record, version")
			require.NoError(t, foreign.Ping(), "the caller's handle stays open")
		})
	}
	_, err := election.NewORMStorage(nil, "")
	require.ErrorContains(t, err, "must not be nil")
	_, err = election.NewORMStorage(new(gorm.DB), "")
	require.Error(t, err)
	g := openGORM(t, dbtest.SQLite(t).Open(t))
	require.NoError(t, g.Transaction(func(tx *gorm.DB) error {
		_, err := election.NewORMStorage(tx, "")
		require.ErrorContains(t, err, "transaction")
		return nil
	}))
}

// A storage on a database that cannot be written reads, and says what is wrong.
func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	for _, kind := range storageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			db := dbtest.SQLite(t)
			readOnly, err := sql.Open("sqlite", db.DSN+"&mode=ro")
			require.NoError(t, err)
			t.Cleanup(func() { _ = readOnly.Close() })
			writer := db.Open(t)
			dbtest.Exec(t, writer, "CREATE TABLE other (x)")
			_, err = kind.open(readOnly, "", "")
			require.ErrorContains(t, err, `create table "election"`)

			mustLead(t, kind.must(t, writer), "a")
			s := kind.must(t, readOnly)
			r, err := s.Get(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "a", r.LeaderID)
			for _, isLeaderChanged := range []bool{false, true} {
				err := s.Update(t.Context(), r, isLeaderChanged)
				require.ErrorContains(t, err, "readonly")
				require.NotErrorIs(t, err, election.ErrRecordConflict)
			}
			require.ErrorContains(t, guarded(t.Context(), s, "a", func(*sql.Tx) error { panic("was called") }), "readonly")
		})
	}
}

// Where the table may not be grown, the election named "" goes on without the
// new columns, until somebody adds them.
func TestFourColumnTable(t *testing.T) {
	t.Parallel()
	for _, kind := range storageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			db, ctx := dbtest.SQLite(t), t.Context()
			writer := db.Open(t)
			dbtest.Exec(t, writer, "CREATE TABLE election (id INTEGER PRIMARY KEY, leader_id TEXT, record TEXT, version INTEGER)")
			// query_only is a stand-in for missing rights: it is lifted below.
			handle := db.OpenSingle(t)
			dbtest.Exec(t, handle, "PRAGMA query_only = 1")
			s, err := kind.open(handle, "", "")
			require.NoError(t, err)
			named, err := kind.open(handle, "", "shard")
			require.NoError(t, err)
			dbtest.Exec(t, handle, "PRAGMA query_only = 0")

			mustLead(t, s, "a")
			require.NoError(t, guarded(ctx, s, "a", func(*sql.Tx) error { return nil }))
			_, err = named.Get(ctx)
			require.ErrorIs(t, err, election.ErrSchema)
			for _, statement := range []string{`ADD COLUMN "election"`, `ADD COLUMN "slot"`, "CREATE UNIQUE INDEX"} {
				require.ErrorContains(t, err, statement)
			}
			require.ErrorIs(t, named.Update(ctx, new(election.Record), true), election.ErrSchema)
			require.ErrorIs(t, guarded(ctx, named, "a", func(*sql.Tx) error { return nil }), election.ErrSchema)

			kind.must(t, writer) // grows it
			dbtest.Exec(t, writer, "INSERT INTO election (id, leader_id, version, election, slot) VALUES (200, 'a', 1, '', 2)")
			mustLead(t, s, "b")
			assert.Equal(t, rawRow{"b", "", 2}, readRow(t, writer, "id = 200"), "guard rows count from then on")
			mustLead(t, named, "b")
		})
	}
}

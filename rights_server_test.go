package election_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// What members need of rights on a server, and what they say without.

// readAndWrite is what a member needs once the table is complete.
const readAndWrite = "SELECT, INSERT, UPDATE, DELETE"

// restricted returns the same database as a new user sees it who has only these
// rights on what is in it now, and on MySQL on what comes later.
func restricted(t *testing.T, db *dbtest.Database, rights string) *dbtest.Database {
	t.Helper()
	admin, as := db.Open(t), *db
	if db.Engine == "postgres" {
		u, err := url.Parse(db.DSN)
		require.NoError(t, err)
		schema := u.Query().Get("search_path")
		user := schema + "_user"
		dbtest.Exec(t, admin, "CREATE ROLE "+user+" LOGIN")
		dbtest.Exec(t, admin, "GRANT USAGE ON SCHEMA "+schema+" TO "+user)
		dbtest.Exec(t, admin, "GRANT "+rights+" ON ALL TABLES IN SCHEMA "+schema+" TO "+user)
		t.Cleanup(func() {
			_, _ = admin.Exec("DROP OWNED BY " + user)
			_, _ = admin.Exec("DROP ROLE " + user)
		})
		u.User = url.User(user)
		as.DSN = u.String()
		return &as
	}
	config, err := mysql.ParseDSN(db.DSN)
	require.NoError(t, err)
	config.User, config.Passwd = "u"+config.DBName[len(config.DBName)-16:], ""
	user := fmt.Sprintf("'%s'@'%%'", config.User)
	dbtest.Exec(t, admin, "CREATE USER "+user)
	t.Cleanup(func() { _, _ = admin.Exec("DROP USER " + user) })
	dbtest.Exec(t, admin, "GRANT "+rights+" ON "+config.DBName+".* TO "+user)
	as.DSN = config.FormatDSN()
	return &as
}

// grantAll gives the user of restricted the rights that growing a table takes.
func grantAll(t *testing.T, db, user *dbtest.Database) {
	t.Helper()
	admin := db.Open(t)
	if db.Engine == "postgres" {
		u, err := url.Parse(user.DSN)
		require.NoError(t, err)
		dbtest.Exec(t, admin, "ALTER TABLE election OWNER TO "+u.User.Username())
		dbtest.Exec(t, admin, "GRANT CREATE ON SCHEMA "+u.Query().Get("search_path")+" TO "+u.User.Username())
		return
	}
	config, err := mysql.ParseDSN(user.DSN)
	require.NoError(t, err)
	dbtest.Exec(t, admin, fmt.Sprintf("GRANT ALTER, CREATE, INDEX ON %s.* TO '%s'@'%%'", config.DBName, config.User))
}

// twenty calls run for 20 members at once, each with a handle of its own.
func twenty(t *testing.T, db *dbtest.Database, run func(i int, handle *sql.DB)) {
	t.Helper()
	var done sync.WaitGroup
	for i := range 20 {
		handle := db.Open(t)
		done.Go(func() { run(i, handle) })
	}
	done.Wait()
}

// eachServerStorage is eachStorage without SQLite.
func eachServerStorage(t *testing.T, run func(t *testing.T, db *dbtest.Database, kind storageKind)) {
	t.Helper()
	for _, kind := range storageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) { run(t, db, kind) })
		})
	}
}

// eachServerStorageAndPooler is eachServerStorage with the poolers.
func eachServerStorageAndPooler(t *testing.T, run func(t *testing.T, db *dbtest.Database, kind storageKind)) {
	t.Helper()
	for _, kind := range storageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			dbtest.EachServerAndPooler(t, func(t *testing.T, db *dbtest.Database) { run(t, db, kind) })
		})
	}
}

// Members that may read and write the table, and nothing more, do all there is
// to do on one that somebody else has made.
func TestMembersWithoutRightsOnACompleteTable(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		kind.must(t, db.Open(t))
		user := restricted(t, db, readAndWrite)
		_, err := user.Open(t).Exec("CREATE TABLE other (x INTEGER)")
		require.Error(t, err, "the user has too many rights for this test")
		twenty(t, user, func(i int, handle *sql.DB) {
			for _, name := range []string{"", "shard"} {
				s, err := kind.open(handle, "", name)
				if !assert.NoError(t, err) {
					continue
				}
				if _, err = lead(t.Context(), s, fmt.Sprint("m", i)); err != nil {
					assert.ErrorIs(t, err, election.ErrRecordConflict)
				}
			}
		})
		s := kind.must(t, user.Open(t))
		term := mustLead(t, s, "a")
		r, err := s.Get(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Update(t.Context(), r, false), "a renewal")
		require.NoError(t, guarded(inTerm(t.Context(), "a", term), s, "a", func(*sql.Tx) error { return nil }))
	})
}

// Without a table and without the right to make one, every member is told at once
// which table is missing and what to run.
func TestMembersWithoutRightsAndTable(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		user := restricted(t, db, readAndWrite)
		var errs [20]error
		twenty(t, user, func(i int, handle *sql.DB) { _, errs[i] = kind.open(handle, "", "") })
		for _, err := range errs {
			require.ErrorContains(t, err, `table "election"`)
			require.ErrorContains(t, err, "denied")
			require.ErrorIs(t, err, election.ErrSchema)
			require.ErrorContains(t, err, "run: CREATE TABLE IF NOT EXISTS")
			require.ErrorContains(t, err, "UNIQUE")
		}
	})
}

// Without the right to grow a table of four columns, "" is served by rows 1 and 2;
// named elections say what to run, and work once that was done.
func TestMembersWithoutRightsOnAnOlderTable(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		admin, ctx := db.Open(t), t.Context()
		makeOlderTable(t, db, admin)
		user := restricted(t, db, readAndWrite)
		var statements string
		var mu sync.Mutex
		twenty(t, user, func(i int, handle *sql.DB) {
			s, err := kind.open(handle, "", "")
			if !assert.NoError(t, err) {
				return
			}
			if _, err := lead(ctx, s, fmt.Sprint("m", i)); err != nil {
				assert.ErrorIs(t, err, election.ErrRecordConflict)
			}
			named, err := kind.open(handle, "", "shard")
			if !assert.NoError(t, err) {
				return
			}
			_, err = named.Get(ctx)
			assert.ErrorIs(t, err, election.ErrSchema)
			assert.ErrorContains(t, err, `table "election"`)
			assert.ErrorIs(t, named.Update(ctx, new(election.Record), true), election.ErrSchema)
			assert.ErrorIs(t, guarded(ctx, named, "a", func(*sql.Tx) error { return nil }), election.ErrSchema)
			mu.Lock()
			defer mu.Unlock()
			_, statements, _ = strings.Cut(fmt.Sprint(err), "run: ")
		})
		require.Equal(t, 2, dbtest.Count(t, admin, "election"))
		handle := user.Open(t)
		s := kind.must(t, handle)
		term := mustLead(t, s, "a")
		require.NoError(t, guarded(inTerm(ctx, "a", term), s, "a", func(*sql.Tx) error { return nil }))
		named, err := kind.open(handle, "", "shard")
		require.NoError(t, err)

		for statement := range strings.SplitSeq(statements, "; ") { // what the error says
			dbtest.Exec(t, admin, statement)
		}
		shard := mustLead(t, named, "b")
		require.NoError(t, guarded(inTerm(ctx, "b", shard), named, "b", func(*sql.Tx) error { return nil }))
		require.NoError(t, guarded(context.WithoutCancel(ctx), s, "a", func(*sql.Tx) error { return nil }))
	})
}

// Once one member may grow the table, the others need not be told.
func TestRightsThatComeLater(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		makeOlderTable(t, db, db.Open(t))
		user := restricted(t, db, readAndWrite)
		waiting, err := kind.open(user.Open(t), "", "shard")
		require.NoError(t, err)
		_, err = waiting.Get(t.Context())
		require.ErrorIs(t, err, election.ErrSchema)
		grantAll(t, db, user)
		twenty(t, user, func(_ int, handle *sql.DB) {
			_, err := kind.open(handle, "", "")
			assert.NoError(t, err)
		})
		mustLead(t, waiting, "a")
		require.Equal(t, 4, dbtest.Count(t, db.Open(t), "election"))
	})
}

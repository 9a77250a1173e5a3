package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

func TestRetryStopsAtOtherErrors(t *testing.T) {
	t.Parallel()
	boom, calls := errors.New("boom"), 0
	require.ErrorIs(t, sqldb.Retry(t.Context(), func() error { calls++; return boom }), boom)
	require.NoError(t, sqldb.Retry(t.Context(), func() error { calls++; return nil }))
	assert.Equal(t, 2, calls)
}

func TestRetryWaitsForLocks(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, other := db.Open(t), db.Open(t)
		dbtest.Exec(t, handle, "CREATE TABLE t (x INTEGER PRIMARY KEY, y INTEGER)")
		dbtest.Exec(t, handle, "INSERT INTO t VALUES (1, 0)")
		blocker := dbtest.Begin(t, other, "UPDATE t SET y = 1")
		insert := func(tx *sql.Tx) error {
			if db.Engine != "sqlite" { // on SQLite the lock refuses the insert itself
				if err := tx.QueryRow("SELECT x FROM t WHERE x = 1 FOR UPDATE NOWAIT").Scan(new(int)); err != nil {
					return err
				}
			}
			_, err := tx.Exec("INSERT INTO t VALUES (2, 0)")
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		attempts := 0
		err := sqldb.InTx(ctx, handle, sqldb.TxOptions{}, func(tx *sql.Tx) error {
			err := insert(tx)
			if attempts++; attempts == 3 {
				cancel()
			}
			return err
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, dialect.Retry, dialect.Classify(err), "it says what it waited for: %v", err)

		result := make(chan error)
		go func() { result <- sqldb.InTx(t.Context(), handle, sqldb.TxOptions{}, insert) }()
		blocker.Commit()
		require.NoError(t, <-result)
		require.Equal(t, 2, dbtest.Count(t, handle, "t"))
	})
}

func TestInTxRollsBack(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).OpenSingle(t)
	dbtest.Exec(t, db, "CREATE TABLE t (x INTEGER)")
	boom := errors.New("boom")
	fail := func(how func()) func(tx *sql.Tx) error {
		return func(tx *sql.Tx) error {
			_, err := tx.Exec("INSERT INTO t VALUES (1)")
			require.NoError(t, err)
			how()
			return boom
		}
	}
	require.ErrorIs(t, sqldb.InTx(t.Context(), db, sqldb.TxOptions{}, fail(func() {})), boom)
	require.PanicsWithValue(t, boom, func() { _ = sqldb.InTx(t.Context(), db, sqldb.TxOptions{}, fail(func() { panic(boom) })) })
	require.Zero(t, dbtest.Count(t, db, "t"))
}

func testTable(name string) sqldb.Table {
	types := dialect.SQLite().Types
	return sqldb.Table{
		Name: name,
		Columns: []sqldb.Column{
			{Name: "id", Type: types.Integer + " NOT NULL"}, {Name: "old", Type: types.Text},
			{Name: "new", Type: types.Name, Added: true}, {Name: "newer", Type: types.Integer, Added: true},
		},
		Unique: []sqldb.Unique{{Suffix: "_new", Columns: []string{"new", "newer"}}},
	}
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{
		"Nothing":     "",
		"Original":    `CREATE TABLE "t ?" (ID INTEGER PRIMARY KEY, Old TEXT)`,
		"HalfGrown":   `CREATE TABLE "t ?" (id INTEGER PRIMARY KEY, old TEXT, new TEXT)`,
		"KeyMissing":  `CREATE TABLE "t ?" (id INTEGER PRIMARY KEY, old TEXT, new TEXT, newer INTEGER, more TEXT)`,
		"OtherKey":    `CREATE TABLE "t ?" (id INTEGER PRIMARY KEY, old TEXT, new TEXT, newer INTEGER, UNIQUE (newer, new))`,
		"KeyByHand":   `CREATE TABLE "t ?" (id INTEGER PRIMARY KEY, old TEXT, new TEXT, newer INTEGER, UNIQUE (new, newer))`,
		"PartialKeys": `CREATE TABLE "t ?" (id INTEGER PRIMARY KEY, old TEXT, new TEXT, newer INTEGER); CREATE UNIQUE INDEX x ON "t ?" (new, newer) WHERE id > 0`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, d, table := dbtest.SQLite(t), dialect.SQLite(), testTable("t ?")
			handle := db.Open(t)
			if before != "" {
				dbtest.Exec(t, handle, before)
			}
			var done sync.WaitGroup
			for range 8 {
				rival := db.Open(t)
				done.Go(func() {
					_, err := sqldb.Ensure(t.Context(), rival, rival, d, table)
					assert.NoError(t, err)
				})
			}
			done.Wait()
			missing, err := sqldb.Missing(t.Context(), handle, d, table)
			require.NoError(t, err)
			require.Empty(t, missing)
			dbtest.Exec(t, handle, `INSERT INTO "t ?" (id, new, newer) VALUES (1, 'a', 1), (2, NULL, NULL), (3, NULL, NULL)`)
			_, err = handle.Exec(`INSERT INTO "t ?" (id, new, newer) VALUES (4, 'a', 1)`)
			require.Equal(t, dialect.Conflict, dialect.Classify(err))
		})
	}
}

func TestEnsureReportsWhatItCannotDo(t *testing.T) {
	t.Parallel()
	d := dialect.SQLite()
	handle := dbtest.SQLite(t).OpenSingle(t)
	dbtest.Exec(t, handle, "CREATE TABLE t (id INTEGER PRIMARY KEY, old TEXT)")
	dbtest.Exec(t, handle, "CREATE TABLE foreigner (id INTEGER PRIMARY KEY)")
	_, err := sqldb.Ensure(t.Context(), handle, handle, d, testTable("foreigner"))
	require.ErrorContains(t, err, "lacks the columns old")

	dbtest.Exec(t, handle, "PRAGMA query_only = 1")
	_, err = sqldb.Ensure(t.Context(), handle, handle, d, testTable("t"))
	var incomplete *sqldb.MissingError
	require.ErrorAs(t, err, &incomplete)
	require.Len(t, incomplete.SQL, 3)
	require.ErrorContains(t, err, incomplete.SQL[0])
	require.Equal(t, dialect.Unusable, dialect.Classify(err), "the cause is kept")
	dbtest.Exec(t, handle, "PRAGMA query_only = 0")
	for _, statement := range incomplete.SQL { // the statements that it names complete the table
		dbtest.Exec(t, handle, statement)
	}
	_, err = sqldb.Ensure(t.Context(), handle, handle, d, testTable("t"))
	require.NoError(t, err)

	dbtest.Exec(t, handle, "PRAGMA query_only = 1")
	_, err = sqldb.Ensure(t.Context(), handle, handle, d, testTable("none"))
	require.ErrorContains(t, err, `create table "none"`)
}

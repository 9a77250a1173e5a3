package election

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/sqldb"
)

func sqlScope(t *testing.T, db *sql.DB, table, name string) string {
	t.Helper()
	s, err := NewSQLStorage(db, table)
	require.NoError(t, err)
	return s.Election(name).scope()
}

// A reign is found by database, table and election, whatever the handle.
func TestScope(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	first := sqlScope(t, db.Open(t), "", "")
	assert.Equal(t, first, sqlScope(t, db.Open(t), "election", ""))
	assert.Equal(t, first, sqlScope(t, db.Open(t), "Election", ""), "SQLite folds case: it is the same table")

	orm, err := NewORMStorageFromSQLDB(db.Open(t), "")
	require.NoError(t, err)
	assert.Equal(t, first, orm.scope(), "both storages on one election")
	assert.Equal(t, sqlScope(t, db.Open(t), "", "x"), orm.Election("x").scope())

	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(db.Path, link); err == nil {
		linked, err := sql.Open(db.Driver, sqldb.FileDSN(link))
		require.NoError(t, err)
		defer func() { require.NoError(t, linked.Close()) }()
		assert.Equal(t, first, sqlScope(t, linked, "", ""), "through a symbolic link")
	}

	memory := func(name string) *SQLStorage {
		s, err := NewInMemorySQLStorage(name, "")
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	one := memory(t.Name())
	assert.Equal(t, one.scope(), memory(t.Name()).scope())

	others := map[string]bool{first: true, one.scope(): true}
	for _, scope := range []string{
		sqlScope(t, db.Open(t), "", "x"), sqlScope(t, db.Open(t), "other", ""), sqlScope(t, db.Open(t), "other", "x"),
		sqlScope(t, dbtest.SQLite(t).Open(t), "", ""), memory(t.Name() + "2").scope(), one.Election("x").scope(),
	} {
		assert.False(t, others[scope], "%q is of another election", scope)
		others[scope] = true
	}
}

// A process that leads two elections under one ID may nest them: each guard
// finds its own reign in the ctx, and through either kind of storage.
func TestNestedReigns(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	a, err := NewSQLStorage(db.Open(t), "")
	require.NoError(t, err)
	b := a.Election("b")
	orm, err := NewORMStorageFromSQLDB(db.Open(t), "")
	require.NoError(t, err)
	me := &Member{ID: "me"}
	ctx := t.Context()
	for term, s := range map[uint64]*SQLStorage{3: a, 8: b} {
		require.NoError(t, s.Update(ctx, &Record{LeaderID: "me", Term: term}, true))
		ctx = ContextWithLeadership(ctx, Leadership{Leader: me, Term: term, scope: s.scope()})
	}
	nothing := func(*sql.Tx) error { return nil }
	require.NoError(t, a.TxnWithLeaderLock(ctx, "me", nothing))
	require.NoError(t, b.TxnWithLeaderLock(ctx, "me", nothing))

	require.NoError(t, a.Update(ctx, &Record{LeaderID: "me", Term: 4, Version: 1}, true))
	require.ErrorIs(t, a.TxnWithLeaderLock(ctx, "me", nothing), ErrNotLeader, "an earlier reign")
	require.NoError(t, b.TxnWithLeaderLock(ctx, "me", nothing), "the other election is as it was")
	require.ErrorIs(t, orm.TxnWithLeaderLock(ctx, "me", func(*gorm.DB) error { return nil }), ErrNotLeader, "through the other kind of storage")
}

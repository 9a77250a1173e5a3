package election_test

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// Tables and sessions on which the guard would not hold.

const olderColumns = " (id BIGINT PRIMARY KEY, leader_id VARCHAR(255), record TEXT, version BIGINT)"

// A table without row locks or rollback, or that is not kept, is refused with an
// error that names the table and the rule.
func TestTrap03UnfitTables(t *testing.T) {
	t.Parallel()
	tables := map[string]map[string][]string{
		"mysql": {
			"of MyISAM, must be a table of InnoDB": {"CREATE TABLE election" + olderColumns + " ENGINE=MyISAM"},
			"of MEMORY, must be a table of InnoDB": {"CREATE TABLE election (id BIGINT PRIMARY KEY, leader_id VARCHAR(255), record VARCHAR(255), version BIGINT) ENGINE=MEMORY"},
			"is a view, must be a table of InnoDB": {"CREATE TABLE other" + olderColumns, "CREATE VIEW election AS SELECT * FROM other"},
		},
		"postgres": {
			"is no table":  {"CREATE TABLE other" + olderColumns, "CREATE VIEW election AS SELECT * FROM other"},
			"is unlogged":  {"CREATE UNLOGGED TABLE election" + olderColumns},
			"is temporary": {"CREATE TEMPORARY TABLE election" + olderColumns},
		},
	}
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		for rule, statements := range tables[db.Engine] {
			handle := db.Fresh(t).OpenSingle(t)
			for _, statement := range statements {
				dbtest.Exec(t, handle, statement)
			}
			_, err := kind.open(handle, "", "")
			require.ErrorContains(t, err, `table "election" `)
			require.ErrorContains(t, err, rule)
		}
	})
}

// A table of our own is of InnoDB, whatever the server's default is.
func TestTrap03DefaultStorageEngine(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "mysql" {
			t.Skip("one storage engine")
		}
		w := newGuardWorld(t, withSettings(t, db, map[string]string{"default_storage_engine": "MyISAM"}, nil), kind)
		var of string
		row := w.db.QueryRow("SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'election'")
		require.NoError(t, row.Scan(&of))
		require.Equal(t, "InnoDB", of)
	})
}

// Settings of a session under which writes are lost, or end otherwise than they
// seem to, are refused with an error that names them.
func TestTrap28UnfitSessions(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "mysql" {
			t.Skip("no such settings")
		}
		for _, unfit := range []struct{ setting, value string }{
			{"autocommit", "0"}, {"completion_type", "CHAIN"}, {"completion_type", "'RELEASE'"},
			{"sql_mode", "'EMPTY_STRING_IS_NULL'"}, {"sql_mode", "'STRICT_ALL_TABLES,EMPTY_STRING_IS_NULL'"},
			{"sql_select_limit", "1"}, {"sql_select_limit", "1000"}, {"character_set_client", "latin1"}, {"character_set_results", "latin1"},
		} {
			handle := withSettings(t, db, map[string]string{unfit.setting: unfit.value}, nil).Open(t)
			_, err := kind.open(handle, "", "")
			require.ErrorContains(t, err, "the session's setting "+unfit.setting+" must", unfit.value)
		}
		_, err := kind.open(withSettings(t, db, map[string]string{"max_join_size": "1"}, nil).Open(t), "", "")
		require.ErrorContains(t, err, "the session's setting max_join_size")
		for _, fit := range []map[string]string{{"charset": "latin1"}, {"charset": "utf8"}, {"character_set_results": "NULL"}} {
			kind.must(t, withSettings(t, db, fit, nil).Open(t))
		}
	})
}

// The guard looks at the table that was found when the storage was opened, also
// on a pooled connection that somebody has turned to another schema since.
func TestTrap28SchemaOfAPooledConnection(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle, otherHandle := db.OpenSingle(t), db.Fresh(t).Open(t)
		ours, other := kind.must(t, handle), kind.must(t, otherHandle)
		term := mustLead(t, ours, "a")
		mustLead(t, other, "b")
		turn, current := "USE ", "SELECT DATABASE()"
		if db.Engine == "postgres" {
			turn, current = "SET search_path TO ", "SELECT current_schema()"
		}
		var schema string
		require.NoError(t, otherHandle.QueryRow(current).Scan(&schema))
		dbtest.Exec(t, handle, turn+schema)

		never := func(*sql.Tx) error { return errors.New("was called") }
		require.ErrorIs(t, guarded(t.Context(), ours, "b", never), election.ErrNotLeader)
		require.NoError(t, guarded(inTerm(t.Context(), "a", term), ours, "a", func(*sql.Tx) error { return nil }))
		r, err := ours.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "a", r.LeaderID)
		require.NoError(t, ours.Update(t.Context(), r, false))
		mustLead(t, ours, "c")
		require.NoError(t, guarded(t.Context(), other, "b", func(*sql.Tx) error { return nil }))
	})
}

// An older table in another character set holds IDs that are not ASCII: the leader
// passes the guard, and nobody else.
func TestTrap25OlderTableInLatin1(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "mysql" {
			t.Skip("one character set per database")
		}
		handle := db.Open(t)
		dbtest.Exec(t, handle, "CREATE TABLE election"+olderColumns+" CHARACTER SET latin1")
		s := kind.must(t, handle)
		ids := []string{"é", "É", "e", "Ã©"} // the last is the first one's bytes, misread
		for _, leader := range ids {
			term := mustLead(t, s, leader)
			for _, id := range ids {
				err := guarded(t.Context(), s, id, func(*sql.Tx) error { return nil })
				if id == leader {
					require.NoError(t, err, "%q leads", leader)
					require.NoError(t, guarded(inTerm(t.Context(), id, term), s, id, func(*sql.Tx) error { return nil }))
				} else {
					require.ErrorIs(t, err, election.ErrNotLeader, "%q leads, %q asks", leader, id)
				}
			}
		}
		for _, mode := range []string{"", "STRICT_ALL_TABLES"} { // an ID for which the column has no characters
			s := kind.must(t, withSettings(t, db, map[string]string{"sql_mode": "'" + mode + "'"}, nil).Open(t))
			before, err := s.Get(t.Context())
			require.NoError(t, err)
			_, err = lead(t.Context(), s, "日")
			require.Error(t, err, mode)
			after, err := s.Get(t.Context())
			require.NoError(t, err)
			require.Equal(t, before, after, mode)
		}
	})
}

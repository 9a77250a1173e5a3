package dialect_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
)

// MariaDB understands the questions for MySQL, too. No MySQL server is here to try them on.
func TestExaminationOfMySQL(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "mysql" {
			t.Skip("written for MySQL")
		}
		handle := db.OpenSingle(t)
		x := dialect.MySQL().Examination
		asked := map[string]bool{}
		ask := func() {
			for _, c := range append(x.Conditions, x.Hung) {
				var seen string
				var holds sql.NullBool
				require.NoError(t, handle.QueryRow(c.Query).Scan(&seen, &holds), c.Name)
				require.NotEmpty(t, seen)
				asked[c.Name] = holds.Bool
			}
		}
		ask()
		require.False(t, asked["lock wait timeout"], "50 s by default")
		require.False(t, asked["hung transactions"], "8 h by default")
		dbtest.Exec(t, handle, "SET SESSION innodb_lock_wait_timeout = 1, SESSION wait_timeout = 30")
		ask()
		require.True(t, asked["lock wait timeout"])
		require.True(t, asked["hung transactions"])
	})
}

func TestLostSession(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		_, err := db.Open(t).Exec("EXECUTE nothing")
		require.Error(t, err)
		require.True(t, dialect.LostSession(err), "%v", err)
		_, err = db.Open(t).Exec("SELECT nothing")
		require.False(t, dialect.LostSession(err), "%v", err)
	})
}

func TestDatabaseFile(t *testing.T) {
	t.Parallel()
	for identity, want := range map[string]string{
		"sqlite:/a/b.db": "/a/b.db", dialect.MemoryIdentity("x"): "", dialect.MemoryIdentity(""): "", "postgres:db": "", "mysql:sqlite:": "",
	} {
		path, isFile := dialect.DatabaseFile(identity)
		require.Equal(t, want != "", isFile, identity)
		if isFile {
			require.Equal(t, want, path)
		}
	}
}

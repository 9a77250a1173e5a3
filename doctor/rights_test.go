package doctor_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/doctor"
	"github.com/sqlelect/election/internal/dbtest"
)

// restricted is the same database as a new user sees it, who has these rights on
// the table of the elections and nothing else.
func restricted(t *testing.T, db *dbtest.Database, rights ...string) *dbtest.Database {
	t.Helper()
	admin, as := db.Open(t), *db
	granted := strings.Join(rights, ", ")
	if db.Engine == "postgres" {
		u, err := url.Parse(db.DSN)
		require.NoError(t, err)
		schema := u.Query().Get("search_path")
		user := schema + "_user"
		dbtest.Exec(t, admin, "CREATE ROLE "+user+" LOGIN")
		t.Cleanup(func() {
			_, _ = admin.Exec("DROP OWNED BY " + user)
			_, _ = admin.Exec("DROP ROLE " + user)
		})
		dbtest.Exec(t, admin, "GRANT USAGE ON SCHEMA "+schema+" TO "+user)
		dbtest.Exec(t, admin, "GRANT "+granted+" ON election TO "+user)
		u.User = url.User(user)
		as.DSN = u.String()
		return &as
	}
	config, err := mysql.ParseDSN(db.DSN)
	require.NoError(t, err)
	config.User, config.Passwd = "u"+config.DBName[len(config.DBName)-16:], ""
	dbtest.Exec(t, admin, "CREATE USER "+config.User+"@'%'")
	t.Cleanup(func() { _, _ = admin.Exec("DROP USER " + config.User + "@'%'") })
	dbtest.Exec(t, admin, fmt.Sprintf("GRANT %s ON %s.election TO %s@'%%'", granted, config.DBName, config.User))
	as.DSN = config.FormatDSN()
	return &as
}

func makeTable(t *testing.T, db *dbtest.Database) {
	t.Helper()
	_, err := election.NewSQLStorage(db.Open(t), "")
	require.NoError(t, err)
}

// A user who may do what members have to, and no more, is examined in the table that
// is there, whose rows are then as before.
func TestRightsOfAMember(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		makeTable(t, db)
		report := examine(t, restricted(t, db, "SELECT", "INSERT", "UPDATE", "DELETE"))
		require.Contains(t, requireVerdict(t, report, "right to CREATE", doctor.OK).Seen, "not needed")
		for _, name := range append(slices.Clone(trials), "place to try", "nothing left behind") {
			requireVerdict(t, report, name, doctor.OK)
		}
		require.Contains(t, report.Scratch, "removed in the end")
		require.Zero(t, dbtest.Count(t, db.Open(t), "election"))
	})
}

// Each right that is missing is found. Without the one to remove rows nothing is
// tried in the table.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	all := []string{"SELECT", "INSERT", "UPDATE", "DELETE"}
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		for _, missing := range all {
			t.Run(missing, func(t *testing.T) {
				t.Parallel()
				db := db.Fresh(t)
				makeTable(t, db)
				report := examine(t, restricted(t, db, slices.DeleteFunc(slices.Clone(all), func(r string) bool { return r == missing })...))
				want := doctor.Failure
				if missing == "DELETE" {
					want = doctor.Warning
				}
				require.Contains(t, requireVerdict(t, report, "right to "+missing, want).Seen, "denied")
				require.Contains(t, requireVerdict(t, report, "place to try", doctor.Warning).Seen, missing)
				requireVerdict(t, report, "compare-and-swap", doctor.Skipped)
				require.Zero(t, dbtest.Count(t, db.Open(t), "election"))
			})
		}
	})
}

// A user who may only read, or not even create the table.
func TestNoRightToCreate(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		makeTable(t, db)
		report := examine(t, restricted(t, db, "SELECT"))
		requireVerdict(t, report, "right to SELECT", doctor.OK)
		for _, name := range []string{"INSERT", "UPDATE"} {
			requireVerdict(t, report, "right to "+name, doctor.Failure)
		}
		require.ErrorContains(t, report.Err(doctor.Warning), "right to INSERT")

		db = db.Fresh(t)
		makeTable(t, db)
		user := restricted(t, db, "SELECT")
		dbtest.Exec(t, db.Open(t), "DROP TABLE election")
		report = examine(t, user)
		requireVerdict(t, report, "right to CREATE", doctor.Failure)
		requireVerdict(t, report, "right to SELECT", doctor.Skipped)
		requireVerdict(t, report, "place to try", doctor.Warning)
	})
}

// Without the right to drop a table none is created.
func TestNoRightToDrop(t *testing.T) {
	t.Parallel()
	eachServerOnce(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine == "postgres" {
			t.Skip("whoever creates a table there may drop it")
		}
		makeTable(t, db)
		user := restricted(t, db, "SELECT", "INSERT", "UPDATE", "DELETE")
		config, err := mysql.ParseDSN(user.DSN)
		require.NoError(t, err)
		dbtest.Exec(t, db.Open(t), fmt.Sprintf("GRANT CREATE, ALTER, INDEX, SELECT, INSERT, UPDATE, DELETE ON %s.* TO %s@'%%'", config.DBName, config.User))
		report := examine(t, user)
		require.Contains(t, requireVerdict(t, report, "right to CREATE", doctor.OK).Seen, "DROP")
		requireVerdict(t, report, "compare-and-swap", doctor.OK)
	})
}

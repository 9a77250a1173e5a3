package doctor_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/doctor"
	"github.com/sqlelect/election/internal/dbtest"
)

// A primary, and a standby that applies what it gets after a while.
func TestReplicaOfPostgres(t *testing.T) {
	ownServers(t)
	primary := dbtest.OwnPostgres(t)
	requireVerdict(t, examine(t, primary), "standbys", doctor.OK)
	standby := primary.Standby(t, "recovery_min_apply_delay=400ms")

	t.Run("behind the DSN", func(t *testing.T) {
		report := examine(t, standby)
		requireVerdict(t, report, "primary", doctor.Failure)
		requireVerdict(t, report, "right to CREATE", doctor.Failure)
		requireVerdict(t, report, "compare-and-swap", doctor.Skipped)
	})
	t.Run("reads are sent to it", func(t *testing.T) {
		how := tampering{reads: standby.DSN}
		// It knows of the table later than its members need it to.
		report := examineBy(t, primary, primary.Open(t), doctor.Options{Other: openTampered(t, primary, how)})
		c := requireVerdict(t, report, "read your write", doctor.Failure)
		require.Contains(t, c.Seen, "reads were old")
	})
	t.Run("reads are sent to it, and it stands still", func(t *testing.T) {
		dbtest.Exec(t, standby.Open(t), "SELECT pg_wal_replay_pause()")
		report := examineBy(t, primary, openTampered(t, primary, tampering{reads: standby.DSN}), doctor.Options{Timeout: 2 * time.Second})
		require.Contains(t, requireVerdict(t, report, "right to CREATE", doctor.Failure).Seen, "reads do not find it")
		dbtest.Exec(t, standby.Open(t), "SELECT pg_wal_replay_resume()")
	})
	t.Run("attached, and nobody waits for it", func(t *testing.T) {
		c := requireVerdict(t, examine(t, primary), "standbys", doctor.Warning)
		require.Contains(t, c.Seen, "1 attached, 0 of them synchronous")
		admin := primary.Open(t)
		dbtest.Exec(t, admin, "CREATE ROLE stranger LOGIN")
		dbtest.Exec(t, admin, "GRANT ALL ON SCHEMA public TO stranger")
		as := *primary
		as.DSN = strings.Replace(primary.DSN, primary.DSN[strings.Index(primary.DSN, "//")+2:strings.Index(primary.DSN, "@")], "stranger", 1)
		require.Contains(t, requireVerdict(t, examine(t, &as), "standbys", doctor.Skipped).Seen, "may not see")
	})
	t.Run("attached, and waited for", func(t *testing.T) {
		admin := primary.Open(t)
		dbtest.Exec(t, admin, "ALTER SYSTEM SET synchronous_standby_names = '*'")
		dbtest.Exec(t, admin, "SELECT pg_reload_conf()")
		await(t, func() bool {
			return dbtest.Count(t, primary.Open(t), "pg_stat_replication WHERE sync_state = 'sync'") == 1
		})
		requireVerdict(t, examine(t, primary), "standbys", doctor.OK)
		c := requireVerdict(t, examine(t, withParameter(t, primary, "synchronous_commit", "local")), "standbys", doctor.Warning)
		require.Contains(t, c.Seen, "local")
	})
}

// A server that replicates from another one.
func TestReplicaOfMariaDB(t *testing.T) {
	ownServers(t)
	primary := dbtest.OwnMySQL(t, "--log-bin=binlog", "--sync-binlog=1", "--server-id=1")
	if primary.Name != "mariadb" {
		t.Skip("the statements are MariaDB's")
	}
	replica := dbtest.OwnMySQL(t, "--server-id=2")
	config, err := mysql.ParseDSN(primary.DSN)
	require.NoError(t, err)
	host, port, _ := strings.Cut(config.Addr, ":")
	admin := replica.Open(t)
	for _, statement := range []string{
		"SET GLOBAL gtid_slave_pos = (SELECT '')",
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%s, MASTER_USER='%s', MASTER_USE_GTID=slave_pos", host, port, config.User),
		"START SLAVE",
	} {
		dbtest.Exec(t, admin, statement)
	}
	connected := "information_schema.global_status WHERE variable_name = 'SLAVES_CONNECTED' AND variable_value > 0"
	await(t, func() bool { return dbtest.Count(t, primary.Open(t), connected) == 1 })
	require.Contains(t, requireVerdict(t, examine(t, primary), "standbys", doctor.Warning).Seen, "Slaves_connected = 1")
	requireVerdict(t, examine(t, replica), "source of the data", doctor.Warning)
	dbtest.Exec(t, primary.Open(t), "SET GLOBAL rpl_semi_sync_master_enabled = ON")
	dbtest.Exec(t, admin, "SET GLOBAL rpl_semi_sync_slave_enabled = ON")
	dbtest.Exec(t, admin, "STOP SLAVE")
	dbtest.Exec(t, admin, "START SLAVE")
	await(t, func() bool {
		return dbtest.Count(t, primary.Open(t), "information_schema.global_status WHERE variable_name = 'RPL_SEMI_SYNC_MASTER_CLIENTS' AND variable_value > 0") == 1
	})
	requireVerdict(t, examine(t, primary), "standbys", doctor.OK)
}

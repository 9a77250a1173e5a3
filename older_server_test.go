package election_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
)

// Tables of older members on a server.

const olderRecord = `{"leader_id":"old","members":[{"id":"old","name":"Alt","address":"10.0.0.1:80",` +
	`"lease_duration":10000000000,"renew_time":"2024-01-01T00:00:00Z"}]}`

// makeOlderTable makes the table as an older member of each engine has it, with
// the worst collation there is, and rows 1 and 2 of one that leads.
func makeOlderTable(t *testing.T, db *dbtest.Database, handle *sql.DB) {
	t.Helper()
	if db.Engine == "postgres" {
		dbtest.Exec(t, handle, `CREATE COLLATION IF NOT EXISTS folding (provider = icu, locale = 'und-u-ks-level1', deterministic = false)`)
		dbtest.Exec(t, handle, `CREATE TABLE election (id bigint PRIMARY KEY, leader_id varchar(255) COLLATE folding, record text, version bigint)`)
	} else {
		dbtest.Exec(t, handle, "CREATE TABLE election (id int(10) unsigned NOT NULL, leader_id varchar(255) DEFAULT NULL,"+
			" record text DEFAULT NULL, version bigint(20) unsigned NOT NULL, PRIMARY KEY (id)) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci")
	}
	dbtest.Exec(t, handle, "INSERT INTO election (id, leader_id, record, version) VALUES (1, 'old', '"+olderRecord+"', 41)")
	dbtest.Exec(t, handle, "INSERT INTO election (id, leader_id, version) VALUES (2, 'old', 17)")
}

// renew writes row 1 as an older member does, from the version it has read.
func (m olderMember) renew(ctx context.Context) error {
	var leader, record string
	var version int64
	row := m.db.QueryRowContext(ctx, "SELECT leader_id, record, version FROM election WHERE id = 1")
	if err := row.Scan(&leader, &record, &version); err != nil {
		return err
	}
	result, err := m.db.ExecContext(ctx, rebind(m.of, "UPDATE election SET leader_id = ?, record = ?, version = ? WHERE id = 1 AND version = ?"),
		leader, record, version+1, version)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%d rows renewed, %v", n, err)
	}
	return nil
}

// Twenty members grow the table at once while its leader, an older member, goes
// on renewing and acquiring: no renewal fails, and none of its writes is lost. (Its
// transaction can be the victim of a deadlock with ALTER TABLE, and is run again.)
func TestOlderTableIsGrownUnderItsLeader(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		admin, ctx := db.Open(t), t.Context()
		makeOlderTable(t, db, admin)
		old := olderMember{t, db, db.Open(t)}
		var stop atomic.Bool
		var writes int64
		ended := make(chan error)
		go func() {
			var err error
			for err == nil && (!stop.Load() || writes < 20) {
				write := old.renew
				if writes%4 == 3 {
					write = func(ctx context.Context) error { return old.takeOver(ctx, "old") }
				}
				if err = write(ctx); err == nil {
					writes++
				} else if writes%4 == 3 && dialect.Classify(err) == dialect.Retry {
					err = nil
				}
			}
			ended <- err
		}()
		twenty(t, db, func(i int, handle *sql.DB) {
			s, err := kind.open(handle, "", "shard")
			if !assert.NoError(t, err) {
				return
			}
			if _, err = lead(ctx, s, fmt.Sprint("m", i)); err != nil {
				assert.ErrorIs(t, err, election.ErrRecordConflict)
			}
		})
		stop.Store(true)
		require.NoError(t, <-ended)

		s := kind.must(t, db.Open(t))
		r, err := s.Get(ctx)
		require.NoError(t, err)
		assert.Equal(t, 41+writes, r.Version, "every write of the older member counts")
		assert.Equal(t, "old", r.LeaderID)
		require.Len(t, r.Members, 1)
		assert.Equal(t, 4, dbtest.Count(t, admin, "election"))

		requireByteForByte(t, s)
		named, err := kind.open(db.Open(t), "", "Shard")
		require.NoError(t, err)
		requireByteForByte(t, named)
	})
}

// A member that wants to grow the table while another program holds it in use
// waits, and gives up, without holding up the others' renewals: a look and a write
// may take 2 s together.
func TestGrowingDoesNotHoldUpRenewals(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		admin := db.Open(t)
		makeOlderTable(t, db, admin)
		old := olderMember{t, db, db.Open(t)}
		inUse := dbtest.Begin(t, admin, "SELECT id FROM election")
		opened := make(chan error, 1)
		handle := db.Open(t)
		go func() { _, err := election.NewSQLStorage(handle, ""); opened <- err }()
		var slowest time.Duration
		growing := time.NewTimer(3 * time.Second)
		defer growing.Stop()
		for more := true; more; {
			began := time.Now()
			require.NoError(t, old.renew(t.Context()))
			slowest = max(slowest, time.Since(began))
			select {
			case <-growing.C:
				more = false
			default:
			}
		}
		inUse.Commit()
		require.NoError(t, <-opened)
		// A second each time; without a bound, for as long as the table is in use.
		require.Less(t, slowest, election.DefaultRenewDeadline/2)
	})
}

// requireByteForByte checks that only the leader itself passes the guard.
func requireByteForByte(t *testing.T, s election.Storage) {
	t.Helper()
	ids := []string{"old", "OLD", "old ", "Old", "öld"}
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
}

// In the older table's column a record of more than 64 KB has no room on MySQL: it
// is stored, or refused with an error that leaves the old one, but never cut short,
// also where the server's mode would only warn.
func TestTrap23LargeRecordInAnOlderTable(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		makeOlderTable(t, db, db.Open(t))
		for _, mode := range []string{"STRICT_ALL_TABLES", "", "STRICT_ALL_TABLES,SIMULTANEOUS_ASSIGNMENT"} {
			handle := withSettings(t, db, map[string]string{"sql_mode": "'" + mode + "'"}, nil).Open(t)
			s := kind.must(t, handle)
			mustLead(t, s, "a")
			before, err := s.Get(t.Context())
			require.NoError(t, err)
			next := before.Clone()
			next.Members = []*election.Member{{ID: "a", Name: strings.Repeat("n", 70_000)}}
			err = s.Update(t.Context(), next, false)
			after, readErr := s.Get(t.Context())
			require.NoError(t, readErr, "mode %q: half-written", mode)
			if err == nil {
				next.Version++
				require.Equal(t, next, after)
			} else {
				require.NotErrorIs(t, err, election.ErrRecordConflict)
				require.Equal(t, before, after)
			}
		}
	})
}

// withSettings returns the same database with session settings in its DSN, or, as
// poolers do not take them, its own.
func withSettings(t *testing.T, db *dbtest.Database, mysqlSettings, postgresSettings map[string]string) *dbtest.Database {
	t.Helper()
	with := *db
	if db.Direct != nil {
		admin := db.Direct.Open(t)
		for key, value := range postgresSettings {
			var statement string
			require.NoError(t, admin.QueryRow("SELECT format('ALTER DATABASE %I SET '||$1||' = %L', current_database(), $2::text)", key, value).Scan(&statement))
			dbtest.Exec(t, admin, statement)
		}
		return &with
	}
	if db.Engine == "postgres" {
		for key, value := range postgresSettings {
			with.DSN += fmt.Sprintf("&%s=%s", key, strings.ReplaceAll(value, " ", "%20"))
		}
		return &with
	}
	config, err := mysql.ParseDSN(db.DSN)
	require.NoError(t, err)
	config.Params = mysqlSettings
	with.DSN = config.FormatDSN()
	return &with
}

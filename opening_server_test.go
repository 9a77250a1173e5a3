package election_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// What it takes to open a storage.

// openingKinds are the ways to open a storage on a handle.
func openingKinds() map[string]func(*sql.DB) (election.Storage, error) {
	return map[string]func(*sql.DB) (election.Storage, error){
		"SQLStorage": func(db *sql.DB) (election.Storage, error) { return election.NewSQLStorage(db, "") },
		"ORMStorage": func(db *sql.DB) (election.Storage, error) { return election.NewORMStorageFromSQLDB(db, "") },
	}
}

// Links may be slow: opening takes six round trips at most on a connection that is there,
// whether it finds the table or has to create it, and opens no other connection.
func TestOpeningTakesSixRoundTrips(t *testing.T) {
	t.Parallel()
	const most = 6
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if engine(t, db.Open(t)) == "MySQL" {
			t.Skip("a second connection tries a lock")
		}
		for name, open := range openingKinds() {
			fresh := db.Fresh(t)
			for _, found := range []string{"creates", "finds"} {
				behind, proxy := fresh.Behind(t)
				handle := behind.Open(t)
				require.NoError(t, handle.Ping())
				proxy.Delay(5 * time.Millisecond) // so that what is sent together is counted together
				before := proxy.Trips()
				_, err := open(handle)
				require.NoError(t, err)
				t.Logf("%s %s the table: %d", name, found, proxy.Trips()-before)
				assert.LessOrEqual(t, proxy.Trips()-before, int64(most), "%s %s the table", name, found)
				require.Equal(t, 1, proxy.Links())
			}
		}
	})
}

// Nothing that works as designed looks like an error in a server's log.
func TestOpeningLeavesTheServersLogClean(t *testing.T) {
	t.Parallel()
	handle := dbtest.OwnPostgres(t).Open(t)
	for _, open := range openingKinds() {
		_, err := open(handle)
		require.NoError(t, err)
	}
	var log string
	read := func() string {
		require.NoError(t, handle.QueryRow("SELECT pg_read_file('../log')").Scan(&log))
		return log
	}
	require.NotContains(t, read(), "ERROR:")
	_, err := handle.Exec("SELECT this_is_none()")
	require.Error(t, err)
	waitFor(t, time.Minute, "the log tells of an error", func() bool { return strings.Contains(read(), "ERROR:") })
}

// The user's limit of connections is waited out, as those of the server and of all users are.
func TestLimitOfTheUserIsWaitedFor(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "mysql" {
			t.Skip("one code for all limits")
		}
		config, err := mysql.ParseDSN(db.DSN)
		require.NoError(t, err)
		admin, user := db.Open(t), fmt.Sprintf("few_%d", time.Now().UnixNano()%1e9)
		dbtest.Exec(t, admin, "CREATE USER "+user+"@'%' IDENTIFIED BY 'pw' WITH MAX_USER_CONNECTIONS 1")
		t.Cleanup(func() { _, _ = admin.Exec("DROP USER " + user + "@'%'") })
		dbtest.Exec(t, admin, "GRANT ALL ON "+config.DBName+".* TO "+user+"@'%'")
		config.User, config.Passwd = user, "pw"
		limited := *db
		limited.DSN = config.FormatDSN()
		other := limited.OpenSingle(t)
		require.NoError(t, other.Ping())
		handle, result := limited.Open(t), make(chan error, 1)
		_, err = handle.Exec("SELECT 1")
		require.ErrorContains(t, err, "1226")
		go func() {
			_, err := election.NewSQLStorage(handle, "")
			result <- err
		}()
		require.NoError(t, other.Close())
		require.NoError(t, <-result)
	})
}

// A standby that is asked in a session of another isolation level says why it refuses.
func TestSerializableSessionOnAStandby(t *testing.T) {
	t.Parallel()
	primary := dbtest.OwnPostgres(t)
	_, err := election.NewSQLStorage(primary.Open(t), "")
	require.NoError(t, err)
	standby := primary.Standby(t, "default_transaction_isolation=serializable")
	_, err = election.NewSQLStorage(standby.Open(t), "")
	require.ErrorContains(t, err, "default_transaction_isolation must not be serializable on a standby")
	require.NotContains(t, err.Error(), "unknown database engine")
}

// In a database of another encoding an ID that it can hold leads, and passes the guard; one
// that it cannot hold is an error by name.
func TestEncodingOfADatabase(t *testing.T) {
	t.Parallel()
	server := dbtest.OwnPostgres(t)
	dbtest.Exec(t, server.Open(t), "CREATE DATABASE narrow ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	config, err := pgx.ParseConfig(server.DSN)
	require.NoError(t, err)
	narrow := *server
	narrow.DSN = fmt.Sprintf("postgres://%s@%s:%d/narrow?sslmode=disable", config.User, config.Host, config.Port)
	for _, encoding := range []string{"", "&client_encoding=UTF8"} {
		with := narrow
		with.DSN += encoding
		for _, id := range []string{"a", "é"} {
			s, err := election.NewSQLStorage(with.Open(t), "t"+encoding)
			require.NoError(t, err)
			term := mustLead(t, s, id)
			r, err := s.Get(t.Context())
			require.NoError(t, err)
			require.Equal(t, id, r.LeaderID, encoding)
			require.NoError(t, guarded(inTerm(t.Context(), id, term), s, id, func(*sql.Tx) error { return nil }), encoding)
		}
	}
	with := narrow
	with.DSN += "&client_encoding=UTF8"
	s, err := election.NewSQLStorage(with.Open(t), "other")
	require.NoError(t, err)
	_, err = lead(t.Context(), s, "🦁")
	require.ErrorContains(t, err, "LATIN1")
}

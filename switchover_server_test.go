package election_test

import (
	"database/sql"
	"net/url"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// Connections of a pool that lead to a server which takes no writes any more, while the
// service's address leads to another one by now.

// pooledConns is how many of them there are.
const pooledConns = 5

// fillPool leaves that many idle connections in the pool of db.
func fillPool(t *testing.T, db *sql.DB) {
	t.Helper()
	db.SetMaxIdleConns(pooledConns)
	var conns []*sql.Conn
	for range pooledConns {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
}

// switchover is a service of two servers, at the address of a proxy.
type switchover struct {
	member  *dbtest.Database // at that address
	primary *dbtest.Database // in the end
	// happen makes the pooled connections lead to a server that takes no writes, and new
	// ones to the other.
	happen func(pool *sql.DB)
}

// newMariaSwitchover is a planned one: the old primary becomes read-only and lives on.
func newMariaSwitchover(t *testing.T) switchover {
	t.Helper()
	old, next := dbtest.OwnMySQL(t), dbtest.OwnMySQL(t)
	servers := map[*dbtest.Database]*mysql.Config{}
	for _, server := range []*dbtest.Database{old, next} {
		config, err := mysql.ParseDSN(server.DSN)
		require.NoError(t, err)
		for _, statement := range []string{
			// All rights on everything include the one to write to a read-only server.
			"CREATE USER member@'%' IDENTIFIED BY 'secret'", "CREATE DATABASE service", "GRANT ALL ON service.* TO member@'%'",
		} {
			dbtest.Exec(t, server.Open(t), statement)
		}
		config.User, config.Passwd, config.DBName = "member", "secret", "service"
		servers[server] = config
	}
	through := func(server *dbtest.Database, address string) *dbtest.Database {
		config, db := servers[server].Clone(), *server
		if address != "" {
			config.Addr = address
		}
		db.DSN = config.FormatDSN()
		return &db
	}
	proxy := dbtest.NewProxy(t, "tcp", servers[old].Addr)
	s := switchover{member: through(old, proxy.Address()), primary: through(next, "")}
	s.happen = func(pool *sql.DB) {
		fillPool(t, pool)
		admin := old.Open(t)
		dbtest.Exec(t, admin, "SET GLOBAL read_only = 1")
		replicate(t, through(old, "").Open(t), s.primary.Open(t))
		proxy.Redirect(servers[next].Addr)
	}
	return s
}

// replicate copies the rows of the unnamed election.
func replicate(t *testing.T, from, to *sql.DB) {
	t.Helper()
	openSQL(t, to)
	for _, id := range []int{1, 2} {
		var leader string
		var record sql.NullString
		var version int64
		require.NoError(t, from.QueryRow("SELECT leader_id, record, version FROM election WHERE id = ?", id).Scan(&leader, &record, &version))
		dbtest.Exec(t, to, "INSERT INTO election (id, leader_id, record, version) VALUES (?, ?, ?, ?)", id, leader, record, version)
	}
}

// newPostgresSwitchover is a balancer that takes a standby for the primary for a while.
func newPostgresSwitchover(t *testing.T) switchover {
	t.Helper()
	primary := dbtest.OwnPostgres(t)
	at := func(db *dbtest.Database) *url.URL {
		u, err := url.Parse(db.DSN)
		require.NoError(t, err)
		return u
	}
	primaryHost, standbyHost := at(primary).Host, at(primary.Standby(t)).Host
	proxy := dbtest.NewProxy(t, "tcp", primaryHost)
	member, u := *primary, at(primary)
	u.Host = proxy.Address()
	member.DSN = u.String()
	return switchover{member: &member, primary: primary, happen: func(pool *sql.DB) {
		proxy.Redirect(standbyHost)
		proxy.Cut()
		proxy.Pass()
		require.Eventually(t, func() bool { return pool.PingContext(t.Context()) == nil }, 10*time.Second, 10*time.Millisecond)
		fillPool(t, pool)
		proxy.Redirect(primaryHost)
	}}
}

func eachSwitchover(t *testing.T, run func(t *testing.T, s switchover)) {
	t.Helper()
	for name, open := range map[string]func(*testing.T) switchover{"mysql": newMariaSwitchover, "postgres": newPostgresSwitchover} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, open(t))
		})
	}
}

// An elector finds the new primary, whatever its pool holds.
func TestElectorFindsTheNewPrimary(t *testing.T) {
	t.Parallel()
	eachSwitchover(t, func(t *testing.T, s switchover) {
		pool := s.member.Open(t)
		p := newParty(t)
		a := p.join("a", openSQL(t, pool), quickLease)
		waitFor(t, 10*time.Second, "a leads", a.IsLeader)
		s.happen(pool)
		storage := openSQL(t, s.primary.Open(t))
		before, err := storage.Get(t.Context())
		require.NoError(t, err)
		waitFor(t, 20*time.Second, "a leads on the new primary", func() bool {
			r, err := storage.Get(t.Context())
			return err == nil && r.LeaderID == "a" && r.Version > before.Version+3 && a.IsLeader()
		})
		p.stopAll()
		p.log.requireSound(t)
	})
}

// A guarded transaction that could not write has cleared the way for the next one.
func TestTransactionsFindTheNewPrimary(t *testing.T) {
	t.Parallel()
	eachSwitchover(t, func(t *testing.T, s switchover) {
		pool := s.member.Open(t)
		storage := openSQL(t, pool)
		mustLead(t, storage, "a")
		s.happen(pool)
		primary := s.primary.Open(t)
		dbtest.Exec(t, primary, "CREATE TABLE log (entry VARCHAR(40) PRIMARY KEY)")
		var err error
		for range pooledConns + 1 {
			if err = guarded(t.Context(), storage, "a", func(tx *sql.Tx) error { return write(tx, "entry") }); err == nil {
				break
			}
		}
		require.NoError(t, err)
		require.Equal(t, 1, dbtest.Count(t, primary, "log"))
	})
}

// A change of leader finds it at once.
func TestChangeOfLeaderFindsTheNewPrimary(t *testing.T) {
	t.Parallel()
	eachSwitchover(t, func(t *testing.T, s switchover) {
		pool := s.member.Open(t)
		storage := openSQL(t, pool)
		mustLead(t, storage, "a")
		s.happen(pool)
		mustLead(t, storage, "b")
		r, err := openSQL(t, s.primary.Open(t)).Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "b", r.LeaderID)
	})
}

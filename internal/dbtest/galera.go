package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// Galera is a cluster of three MariaDB servers on this machine, all of which can be
// written. It runs until this process ends, however it ends, or Close is called.
type Galera struct {
	Nodes []*Node

	daemon, provider, install string
	user                      string
}

// Node is one server of a cluster.
type Node struct {
	cluster *Galera
	number  int
	// Its own ports: for clients, for the group, and for the two ways of catching up.
	port, group, incremental, snapshot int
	server                             *server // nil while it does not run
}

const (
	galeraNodes = 3
	// galeraPatience is for one node to start or to come back. It copies all data first.
	galeraPatience = time.Minute
)

// RequireGalera starts a cluster, skips the test where there is none, or fails it if
// ELECTION_TEST_REQUIRE names "galera".
func RequireGalera(t testing.TB, start func() (*Galera, error)) *Galera {
	t.Helper()
	skipServerIfShort(t)
	g, err := start()
	skipWithoutProgram(t, "galera", err)
	require.NoError(t, err)
	return g
}

// StartGalera starts a cluster from nothing, one node after the other.
func StartGalera() (g *Galera, err error) {
	if errSetLogger != nil {
		return nil, errSetLogger
	}
	for range startAttempts {
		if g, err = newGalera(); err != nil {
			return nil, err
		}
		if err = g.start(); err == nil || !errors.Is(err, errEnded) {
			return g, err
		}
	}
	return nil, err
}

// newGalera finds the programs and chooses the ports.
func newGalera() (*Galera, error) {
	g := &Galera{user: randomName()[:30]}
	programs := []string{"/usr/sbin", "/usr/libexec", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"}
	libraries := []string{"/usr/lib/galera", "/usr/lib/galera-4", "/usr/lib64/galera-4", "/usr/lib64/galera"}
	var rsync string
	for _, p := range []struct {
		path *string
		dirs []string
		name string
	}{
		{&g.daemon, programs, "mariadbd"}, {&g.install, programs, "mariadb-install-db"},
		{&g.provider, libraries, "libgalera_smm.so"}, {&rsync, programs, "rsync"},
	} {
		found := false
		if *p.path, found = findFile(p.dirs, p.name); !found {
			return nil, fmt.Errorf("%s: %w", p.name, ErrNoServer)
		}
	}
	for number := range galeraNodes {
		n := &Node{cluster: g, number: number}
		for _, port := range []*int{&n.port, &n.group, &n.incremental, &n.snapshot} {
			var err error
			if *port, err = freePort(); err != nil {
				return nil, err
			}
		}
		g.Nodes = append(g.Nodes, n)
	}
	return g, nil
}

func (g *Galera) start() error {
	for _, n := range g.Nodes {
		if err := n.launch(n.number == 0); err != nil {
			return errors.Join(err, g.Close())
		}
	}
	return nil
}

// Close stops all nodes, at once, and removes what they have left.
func (g *Galera) Close() (err error) {
	for _, n := range g.Nodes {
		err = errors.Join(err, n.close())
	}
	return err
}

func (n *Node) close() error {
	if n.server == nil {
		return nil
	}
	dir, err := n.server.dir, n.server.alive.Close()
	n.server = nil
	return errors.Join(err, n.until(context.Background(), "its directory to go", func() error {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			return errors.New("it is still there")
		}
		return nil
	}))
}

// DSN is what the driver takes to connect to the schema of that name on n; "" for none.
func (n *Node) DSN(schema string) string {
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr, config.DBName = n.cluster.user, "tcp", fmt.Sprintf("127.0.0.1:%d", n.port), schema
	return config.FormatDSN()
}

// Open returns a new handle on the schema of that name, closed when the test ends.
func (n *Node) Open(t testing.TB, schema string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", n.DSN(schema))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Schema creates a schema on all nodes, and drops it when the test has ended.
func (g *Galera) Schema(t testing.TB) string {
	t.Helper()
	name := randomName()
	withSchema(t, "mysql", g.Nodes[0].DSN(""), "DATABASE "+name, "")
	return name
}

// CreateSchema creates a schema on all nodes.
func (g *Galera) CreateSchema(ctx context.Context, name string) error {
	db, err := sql.Open("mysql", g.Nodes[0].DSN(""))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, "CREATE DATABASE "+name)
	return err
}

// BinaryLogs are the files of n's binary log, in order.
func (n *Node) BinaryLogs() ([]string, error) {
	return filepath.Glob(filepath.Join(n.server.dir, "data", "binlog.[0-9]*"))
}

// launch starts n, as the first of a new cluster or to join the others, and waits
// until it takes part.
func (n *Node) launch(first bool) error {
	dir, alive, err := n.program(first).launch(n.port)
	if err != nil {
		return fmt.Errorf("start node %d: %w", n.number+1, err)
	}
	n.server = &server{dsn: n.DSN(""), dir: dir, alive: alive, port: n.port, starts: 1}
	if err := n.AwaitSynced(context.Background()); err != nil {
		return fmt.Errorf("start node %d: %w", n.number+1, n.server.explain(err))
	}
	return nil
}

// program is the server n. A joiner's data come from another node.
func (n *Node) program(first bool) program {
	g := n.cluster
	p := program{name: "galera", account: "mysql", driver: "mysql", stop: "KILL", prepare: "mkdir data"}
	var addresses []string
	for _, other := range g.Nodes {
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", other.group))
	}
	options := fmt.Sprintf(`--wsrep-cluster-address='gcomm://%s'`, strings.Join(addresses, ","))
	if first {
		options = `--wsrep-cluster-address='gcomm://' --init-file="$PWD/init.sql"`
		p.prepare = fmt.Sprintf(`'%s' --no-defaults --datadir="$PWD/data" --auth-root-authentication-method=normal --skip-test-db`, g.install)
		p.files = map[string]string{"init.sql": fmt.Sprintf(
			"CREATE USER %[1]s@'%%';\nGRANT ALL ON *.* TO %[1]s@'%%' WITH GRANT OPTION;\n", g.user)}
	}
	options += fmt.Sprintf(` --log-bin="$PWD/data/binlog" --log-slave-updates --server-id=%d`, n.number+1)
	p.serve = fmt.Sprintf(`'%s' --no-defaults --datadir="$PWD/data" --socket="$PWD/socket" --bind-address=127.0.0.1 --port="$PORT" \
		--skip-name-resolve --max-connections=500 --binlog-format=ROW --innodb-autoinc-lock-mode=2 \
		--innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=OFF --innodb-lock-wait-timeout=3 --innodb-buffer-pool-size=64M --loose-performance-schema=OFF \
		--wsrep-on=ON --wsrep-provider='%s' --wsrep-cluster-name=%s --wsrep-node-name=n%d --wsrep-node-address=127.0.0.1:%d \
		--wsrep-node-incoming-address=127.0.0.1:"$PORT" --wsrep-sst-method=rsync --wsrep-sst-receive-address=127.0.0.1:%d \
		--wsrep-provider-options='%s' %s`, g.daemon, g.provider, g.user, n.number+1, n.group, n.snapshot, n.providerOptions(), options)
	return p
}

// providerOptions keep all of the group's traffic on the loopback device, and make
// it notice sooner than by default that a node says nothing (3 instead of 5 to 15 s).
func (n *Node) providerOptions() string {
	return fmt.Sprintf("base_port=%[1]d;gmcast.listen_addr=tcp://127.0.0.1:%[1]d;"+
		"ist.recv_addr=127.0.0.1:%[2]d;ist.recv_bind=127.0.0.1:%[2]d;gcache.size=32M;pc.recovery=no;"+
		"evs.suspect_timeout=PT3S;evs.inactive_timeout=PT6S", n.group, n.incremental)
}

// AwaitSynced returns when n is in the primary component and has caught up.
func (n *Node) AwaitSynced(ctx context.Context) error {
	db, err := sql.Open("mysql", n.DSN("")+"?timeout=2s&readTimeout=2s")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return n.until(ctx, "the node to take part", func() error {
		if n.server.hasEnded() {
			return errEnded
		}
		var name, state string
		err := db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'wsrep_local_state_comment'").Scan(&name, &state)
		if err == nil && state != "Synced" {
			err = fmt.Errorf("its state is %q", state)
		}
		return err
	})
}

// until calls done every now and then until it returns nil or errEnded.
func (n *Node) until(ctx context.Context, what string, done func() error) error {
	ctx, cancel := context.WithTimeout(ctx, galeraPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := done()
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %s: %w", galeraPatience, what, err)
		}
	}
}

// Kill ends n at once. Restart brings it back.
func (n *Node) Kill() error { return n.server.signal("KILL") }

// Stop stops n where it stands, as a machine that hangs; Continue lets it go on.
func (n *Node) Stop() error { return n.server.signal("STOP") }

// Continue ends a Stop.
func (n *Node) Continue() error { return n.server.signal("CONT") }

// Restart starts n anew, from nothing: it copies all data from another node.
func (n *Node) Restart() error {
	if err := n.close(); err != nil {
		return err
	}
	return n.launch(false)
}

package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Pair is a PostgreSQL primary and its synchronous standby on this machine. It runs
// until this process ends, however it ends, or Close is called.
type Pair struct {
	Primary, Standby *PairServer

	user, name           string // of the owner, and of the standby
	initdb, daemon, copy string // programs
}

// PairServer is one of the two. Which one leads, the other's promotion changes.
type PairServer struct {
	pair *Pair
	port int
	own  *OwnServer // nil before it was started
}

// StartPair starts a pair from nothing.
func StartPair() (*Pair, error) {
	p := &Pair{user: randomName(), name: "standby"}
	daemon, found := find(postgresDirs(), "postgres")
	if !found {
		return nil, fmt.Errorf("postgres: %w", ErrNoServer)
	}
	var err error
	if p.daemon, err = filepath.EvalSymlinks(daemon); err != nil {
		return nil, err
	}
	for name, path := range map[string]*string{"initdb": &p.initdb, "pg_basebackup": &p.copy} {
		*path = filepath.Join(filepath.Dir(p.daemon), name) // of the same version
		if _, err := os.Stat(*path); err != nil {
			return nil, fmt.Errorf("%s: %w", name, ErrNoServer)
		}
	}
	for range startAttempts {
		if err = p.start(); err == nil || !errors.Is(err, errEnded) {
			break
		}
		err = errors.Join(err, p.Close())
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// RequirePair starts a pair for one test. It skips the test where PostgreSQL is
// missing, unless ELECTION_TEST_REQUIRE lists "postgres".
func RequirePair(t testing.TB) *Pair {
	t.Helper()
	skipServerIfShort(t)
	p, err := StartPair()
	skipWithoutProgram(t, "postgres", err)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func (p *Pair) start() (err error) {
	p.Primary, p.Standby = &PairServer{pair: p}, &PairServer{pair: p}
	for _, s := range []*PairServer{p.Primary, p.Standby} {
		if s.port, err = freePort(); err != nil {
			return err
		}
	}
	if err := p.Primary.launch(fmt.Sprintf(`'%s' -D data -U %s -A trust -E UTF8 --no-sync`, p.initdb, p.user)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	if err := p.Primary.Exec(ctx, "SELECT pg_create_physical_replication_slot('"+p.name+"')"); err != nil {
		return err
	}
	err = p.Standby.launch(fmt.Sprintf(`'%s' -D data -R -S %s -X stream --no-sync -c fast -d 'application_name=%[2]s host=127.0.0.1 port=%d user=%s'`,
		p.copy, p.name, p.Primary.port, p.user))
	if err != nil {
		return err
	}
	return p.Synchronous(ctx, true)
}

// Synchronous makes a COMMIT of the primary wait for the standby, or not, from the next
// one on.
func (p *Pair) Synchronous(ctx context.Context, wait bool) error {
	names := p.name
	if !wait {
		names = ""
	}
	if err := p.Primary.Set(ctx, "synchronous_standby_names", names); err != nil || !wait {
		return err
	}
	return p.Primary.await(ctx, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync' AND replay_lsn IS NOT NULL")
}

// DSN leads to whichever server is the primary, in a form that pgx takes.
func (p *Pair) DSN() string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable&connect_timeout=3&target_session_attrs=read-write",
		p.user, p.Primary.port, p.Standby.port)
}

// Promote makes the standby the primary, and the primary the other one.
func (p *Pair) Promote(ctx context.Context) error {
	if err := p.Standby.Exec(ctx, "SELECT pg_promote(true, 60)"); err != nil {
		return err
	}
	p.Primary, p.Standby = p.Standby, p.Primary
	return p.Primary.await(ctx, "SELECT NOT pg_is_in_recovery()")
}

// Close stops both servers, at once, and removes what they have left.
func (p *Pair) Close() (err error) {
	for _, s := range []*PairServer{p.Primary, p.Standby} {
		err = errors.Join(err, s.close())
	}
	return err
}

// DSN leads to s, whether or not it is the primary.
func (s *PairServer) DSN() string {
	return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable&connect_timeout=3", s.pair.user, s.Address())
}

// Address is where s listens.
func (s *PairServer) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// launch prepares the data in a directory of its own, and waits for the server.
func (s *PairServer) launch(prepare string) error {
	p := program{
		name: "pair", account: "postgres", driver: "pgx", stop: "QUIT", gentle: "INT", prepare: prepare,
		// Commits are told the order of, for those who want to check it.
		serve: fmt.Sprintf(`'%s' -D data -p "$PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
			-c fsync=off -c max_connections=200 -c wal_log_hints=on -c track_commit_timestamp=on`, s.pair.daemon),
		dsn: func(int) string { return s.DSN() },
	}
	server, err := p.startAt(s.port)
	if err == nil {
		s.own = p.own(server)
	}
	return err
}

func (s *PairServer) close() error {
	if s == nil || s.own == nil {
		return nil
	}
	own := s.own
	s.own = nil
	return errors.Join(own.Close(), poll(context.Background(), "the directory to go", func() (bool, error) {
		_, err := os.Stat(own.dir)
		return errors.Is(err, os.ErrNotExist), nil
	}))
}

// Kill ends s at once, as a crash would.
func (s *PairServer) Kill(ctx context.Context) error { return s.own.end(ctx, s.own.program.stop) }

// Return starts s again, which was killed, on its own data: as what it was.
func (s *PairServer) Return(ctx context.Context) error { return s.own.Start(ctx) }

// Stall stops the process by which the standby receives what is written, or, with
// resume, lets it go on.
func (s *PairServer) Stall(ctx context.Context, resume bool) error {
	name := "STOP"
	if resume {
		name = "CONT"
	}
	db, err := sql.Open("pgx", s.DSN())
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	var pid string
	if err := db.QueryRowContext(ctx, "SELECT pid::text FROM pg_stat_wal_receiver").Scan(&pid); err != nil {
		return err
	}
	return signalProcess(name, pid)
}

// StreamFrom makes the standby receive from that address.
func (s *PairServer) StreamFrom(ctx context.Context, host, port string) error {
	err := s.Set(ctx, "primary_conninfo", fmt.Sprintf("application_name=%s host=%s port=%s user=%s", s.pair.name, host, port, s.pair.user))
	if err != nil {
		return err
	}
	return s.await(ctx, "SELECT count(*) = 1 FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_port = "+port)
}

// Set changes a setting of the whole server.
func (s *PairServer) Set(ctx context.Context, setting, value string) error {
	if err := s.Exec(ctx, "ALTER SYSTEM SET "+setting+" = '"+value+"'"); err != nil {
		return err
	}
	return s.Exec(ctx, "SELECT pg_reload_conf()")
}

// Exec runs one statement on s.
func (s *PairServer) Exec(ctx context.Context, statement string) error {
	db, err := sql.Open("pgx", s.DSN())
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// await waits until query returns true.
func (s *PairServer) await(ctx context.Context, query string) error {
	db, err := sql.Open("pgx", s.DSN())
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return poll(ctx, query, func() (done bool, err error) {
		err = db.QueryRowContext(ctx, query).Scan(&done)
		return done, err
	})
}

// poll waits until what is done.
func poll(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		is, err := done()
		if is {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", what, errors.Join(ctx.Err(), err))
		}
	}
}

// signalProcess sends a signal by its name to a process of a server that runs.
func signalProcess(name, pid string) error { return exec.Command("kill", "-"+name, pid).Run() }

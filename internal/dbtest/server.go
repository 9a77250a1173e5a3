package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// program is a database server that this machine can run.
type program struct {
	name    string // part of its directory's name
	account string // whom it runs as when the tests run as root, if there is such a user
	driver  string
	dsn     func(port int) string
	files   map[string]string // to be in its directory, by name
	// prepare and serve are shell commands that run in that directory; serve is
	// one program in the foreground, on TCP port $PORT of 127.0.0.1.
	prepare, serve string
	stop           string // the signal that ends it at once
	gentle         string // the signal on which it ends its clients' connections, and then itself
}

// server is one that runs until this process ends, however it ends.
type server struct {
	dsn   string
	alive keeper // the server stops when this is closed
	dir   string // "" of one that was there before
	port  int
	// starts counts how often it was started.
	starts int
}

// ErrNoServer means that this machine has no such program.
var ErrNoServer = errors.New("not installed")

const (
	startPatience = time.Minute
	startAttempts = 3
)

// start runs p and waits until it answers. A port is free when it is chosen and
// may be taken when the server listens: then another is tried.
func (p program) start() (s *server, err error) {
	for range startAttempts {
		var port int
		if port, err = freePort(); err != nil {
			return nil, err
		}
		if s, err = p.startAt(port); err == nil || !errors.Is(err, errEnded) {
			return s, err
		}
	}
	return nil, err
}

var errEnded = errors.New("the server has ended")

func (p program) startAt(port int) (*server, error) {
	dir, alive, err := p.launch(port)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	s := &server{dsn: p.dsn(port), alive: alive, dir: dir, port: port, starts: 1}
	if err := p.await(s); err != nil {
		err = s.explain(err)
		_ = alive.Close()
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	return s, nil
}

// ended is the file that is there when the server that was started last is gone.
func (s *server) ended() string { return filepath.Join(s.dir, "ended"+strconv.Itoa(s.starts)) }

func (s *server) hasEnded() bool {
	_, err := os.Stat(s.ended())
	return err == nil
}

// explain adds the server's last words.
func (s *server) explain(err error) error {
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return fmt.Errorf("%w; its log ends: %s", err, log[max(0, len(log)-2000):])
}

// await returns when the server answers. It uses a user name of its own, so that
// no other server on that port can answer in its place.
func (p program) await(s *server) error {
	db, err := sql.Open(p.driver, s.dsn)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		if s.hasEnded() {
			return errEnded
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no answer within %v: %w", startPatience, err)
		}
	}
}

// freePort picks from below the range that systems take for outgoing
// connections: a port there could be gone by the time the server listens.
func freePort() (port int, err error) {
	const first, count, attempts = 20000, 10000, 100
	for range attempts {
		port = first + rand.IntN(count)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port: %w", err)
}

// randomName is a name for a schema or a user that nobody else has.
func randomName() string { return fmt.Sprintf("election_test_%016x", rand.Uint64()) }

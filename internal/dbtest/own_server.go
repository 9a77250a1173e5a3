package dbtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// OwnServer is a server of the caller's own, which it may stop and start again
// on the same data and port. It keeps what it acknowledged, as a server does
// by default, and ends with this process, however that ends.
type OwnServer struct {
	// Driver and DSN are what sql.Open takes.
	Driver, DSN string
	// Address is where it listens.
	Address string

	*server
	program program
}

// RequireServer is StartServer for one test, at whose end the server is stopped. It skips
// the test where the server is missing, unless ELECTION_TEST_REQUIRE lists it.
func RequireServer(t testing.TB, engine string) *OwnServer {
	t.Helper()
	skipServerIfShort(t)
	s, err := StartServer(engine)
	skipWithoutProgram(t, engine, err)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// StartServer starts a server of engine, "mysql" or "postgres". Where this machine
// has none the error wraps ErrNoServer.
func StartServer(engine string) (*OwnServer, error) {
	programs := map[string]func(string) (program, error){"mysql": mysqlProgram, "postgres": postgresProgram}
	find, ok := programs[engine]
	if !ok {
		return nil, fmt.Errorf("unknown engine %q", engine)
	}
	p, err := find("") // with the server's own settings it loses nothing, however it ends
	if err != nil {
		return nil, err
	}
	s, err := p.start()
	if err != nil {
		return nil, err
	}
	return p.own(s), nil
}

func (p program) own(s *server) *OwnServer {
	return &OwnServer{Driver: p.driver, DSN: s.dsn, Address: "127.0.0.1:" + strconv.Itoa(s.port), server: s, program: p}
}

// Behind returns the DSN under which the server is reached through a proxy on
// that port of this machine.
func (s *OwnServer) Behind(port int) string { return s.program.dsn(port) }

// Kill ends the server with SIGKILL, and returns when it has ended. Of PostgreSQL,
// processes that serve clients go on for a moment.
func (s *OwnServer) Kill(ctx context.Context) error { return s.end(ctx, "KILL") }

// Stop lets the server end its clients' connections and then itself, and returns
// when it has ended.
func (s *OwnServer) Stop(ctx context.Context) error { return s.end(ctx, s.program.gentle) }

func (s *OwnServer) end(ctx context.Context, signal string) error {
	if _, err := fmt.Fprintln(s.alive, "end", signal); err != nil {
		return fmt.Errorf("stop %s: %w", s.program.name, err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !s.hasEnded() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s.explain(context.Cause(ctx))
		}
	}
	return nil
}

// Start starts the server again, and returns when it answers. It tries until ctx
// ends: what a killed server leaves behind may hold its memory for a moment.
func (s *OwnServer) Start(ctx context.Context) error {
	for {
		s.starts++
		if _, err := fmt.Fprintln(s.alive, "start", s.starts); err != nil {
			return fmt.Errorf("start %s: %w", s.program.name, err)
		}
		err := s.program.await(s.server)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errEnded) || ctx.Err() != nil {
			return s.explain(err)
		}
	}
}

// Path is that of a file in the server's own directory, which the server may write.
// "log" is what the server has to say.
func (s *OwnServer) Path(name string) string { return filepath.Join(s.dir, name) }

// Close stops the server at once and removes its data.
func (s *OwnServer) Close() error { return s.alive.Close() }

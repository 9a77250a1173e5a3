package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
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
	return &OwnServer{Driver: p.driver, DSN: s.dsn, Address: "127.0.0.1:" + strconv.Itoa(s.port), server: s, program: p}, nil
}

// Behind returns the DSN under which the server is reached through a proxy on
// that port of this machine.
func (s *OwnServer) Behind(port int) string { return s.program.dsn(port) }

// Kill ends the server with SIGKILL, and returns when it has ended.
func (s *OwnServer) Kill(ctx context.Context) error { return s.end(ctx, "KILL") }

// Stop lets the server end its clients' connections and then itself, and returns
// when it has ended.
func (s *OwnServer) Stop(ctx context.Context) error { return s.end(ctx, s.program.gentle) }

func (s *OwnServer) end(ctx context.Context, signal string) error {
	if _, err := fmt.Fprintln(s.alive, "stop", signal); err != nil {
		return fmt.Errorf("stop %s: %w", s.program.name, err)
	}
	return until(ctx, func() bool {
		_, err := os.Stat(s.ended())
		return err == nil
	})
}

// Start starts the server again, and returns when it answers. It tries more than
// once: what a killed server leaves behind may hold its port or its memory for a
// moment.
func (s *OwnServer) Start(ctx context.Context) error {
	db, err := sql.Open(s.Driver, s.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	for {
		if _, err := io.WriteString(s.alive, "start\n"); err != nil {
			return fmt.Errorf("start %s: %w", s.program.name, err)
		}
		if err := until(ctx, func() bool { return isGone(s.ended()) }); err != nil {
			return s.explain(err)
		}
		answered := false
		err := until(ctx, func() bool {
			answered = db.PingContext(ctx) == nil
			return answered || !isGone(s.ended())
		})
		if err != nil {
			return s.explain(err)
		}
		if answered {
			return nil
		}
	}
}

// Close stops the server at once and removes its data.
func (s *OwnServer) Close() error { return s.alive.Close() }

func isGone(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist)
}

// until asks every few milliseconds.
func until(ctx context.Context, fulfilled func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !fulfilled() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

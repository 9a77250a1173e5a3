//go:build linux

package main

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/arena"
)

// Each fault of a network does what its name says, to a server that echoes, and
// nothing once it is healed.
func TestFaultsOfNetworks(t *testing.T) {
	for _, f := range natures {
		if f.on(&venue{file: &file{volume: &volume{}}}) || f.outage {
			continue
		}
		t.Run(string(f.kind), func(t *testing.T) {
			t.Parallel()
			n := newEcho(t)
			conn := dial(t, n)
			require.NoError(t, echo(conn, 1, 10*time.Second))
			heal, err := strikeNetwork(fault{nature: f, strength: 0.5}, n)
			require.NoError(t, err)

			start := time.Now()
			switch err := echo(conn, 8<<10, time.Second); f.kind {
			case latency:
				require.NoError(t, err)
				require.Greater(t, time.Since(start), 150*time.Millisecond)
			case cut, refuse:
				require.Error(t, err)
				require.Less(t, time.Since(start), 900*time.Millisecond, "it is told at once")
			default:
				require.ErrorAs(t, err, new(net.Error), "it hears nothing")
				require.GreaterOrEqual(t, time.Since(start), time.Second)
			}
			require.NoError(t, heal(t.Context()))
			require.NoError(t, echo(dial(t, n), 1, 10*time.Second))
		})
	}
}

// newEcho returns a network before a server that sends back what it is sent.
func newEcho(t *testing.T) *network {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	n, err := newNetwork("echo", listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(n.close)
	return n
}

func dial(t *testing.T, n *network) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.proxy.Listen)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// echo sends so many bytes and receives them again.
func echo(conn net.Conn, size int, patience time.Duration) error {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(make([]byte, size)); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, size))
	return err
}

// A file that is full, on a full disk, or locked takes no entry, and takes them
// again once that is healed.
func TestFaultsOfFiles(t *testing.T) {
	v, err := openVenue(t.Context(), sqliteEngine, t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.close()) })
	s := &stage{venue: v}
	s.ledger, err = arena.Open(t.Context(), v.Venue)
	require.NoError(t, err)
	defer s.ledger.DB.Close()
	require.NoError(t, s.ledger.Create(t.Context()))
	_, err = s.ledger.DB.Exec("CREATE TABLE note (content BLOB)")
	require.NoError(t, err)
	insert := func() error {
		_, err := s.ledger.DB.ExecContext(context.Background(), "INSERT INTO note VALUES (zeroblob(100000))")
		return err
	}
	for _, f := range natures {
		if !f.on(v) || !f.outage {
			continue
		}
		t.Run(string(f.kind), func(t *testing.T) {
			require.NoError(t, insert())
			heal, err := s.strike(t.Context(), fault{nature: f}, nil)
			require.NoError(t, err)
			require.Error(t, insert())
			require.NoError(t, heal(t.Context()))
			require.NoError(t, insert())
		})
	}
}

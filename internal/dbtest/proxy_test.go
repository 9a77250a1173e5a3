package dbtest_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// echo answers every connection with what it sends.
func echo(t *testing.T) net.Listener {
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
	return listener
}

func dial(t *testing.T, p *dbtest.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// answer waits for one word of two bytes.
func answer(conn net.Conn, patience time.Duration) (string, error) {
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	word := make([]byte, 2)
	_, err := io.ReadFull(conn, word)
	return string(word), err
}

func requireAnswer(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got, err := answer(conn, 30*time.Second)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func send(t *testing.T, conn net.Conn, word string) {
	t.Helper()
	_, err := conn.Write([]byte(word))
	require.NoError(t, err)
}

func TestProxy(t *testing.T) {
	t.Parallel()
	target := echo(t)
	p := dbtest.NewProxy(t, "tcp", target.Addr().String())
	conn := dial(t, p)
	send(t, conn, "p1")
	requireAnswer(t, conn, "p1")

	const delay = 50 * time.Millisecond
	p.Delay(delay)
	sent := time.Now()
	send(t, conn, "d1")
	requireAnswer(t, conn, "d1")
	require.GreaterOrEqual(t, time.Since(sent), 2*delay, "each way")

	p.Swallow()
	send(t, conn, "s1")
	late := dial(t, p)
	send(t, late, "s2")
	for _, c := range []net.Conn{conn, late} {
		_, err := answer(c, 100*time.Millisecond)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "open, and silent")
	}
	p.Pass()
	requireAnswer(t, conn, "s1")
	requireAnswer(t, late, "s2")

	p.Cut()
	for _, c := range []net.Conn{conn, late, dial(t, p)} {
		_, err := answer(c, 30*time.Second)
		require.Error(t, err)
		require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "closed, not silent")
	}
	p.Pass()
	again := dial(t, p)
	send(t, again, "p2")
	requireAnswer(t, again, "p2")

	// The end of one direction arrives, and the other still works.
	send(t, again, "p3")
	require.NoError(t, again.(*net.TCPConn).CloseWrite())
	requireAnswer(t, again, "p3")
	_, err := answer(again, 30*time.Second)
	require.ErrorIs(t, err, io.EOF)
}

package election_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
)

// A connection that breaks ends all that watch by it, and they can begin again.
func TestWatchEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		behind, proxy := db.Behind(t)
		handle := behind.Open(t)
		s, other := kind.must(t, handle), kind.named(t, handle, "other")
		direct := kind.must(t, db.Open(t))
		mustLead(t, direct, "a")
		for range 3 {
			e, more := listen(t, s), listen(t, other)
			proxy.Cut()
			for _, e := range []*ear{e, more} {
				err := e.end(t)
				require.Error(t, err)
				require.NoError(t, t.Context().Err())
			}
			mustLead(t, direct, "b")
			proxy.Pass()
			e = listen(t, s)
			mustLead(t, direct, "c")
			e.hear(t)
			e.stop()
			require.ErrorIs(t, e.end(t), context.Canceled)
			require.Zero(t, handle.Stats().InUse)
		}
	})
}

// A connection that falls silent is noticed, also where it is only listened on.
func TestWatchEndsInSilence(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		mustLead(t, kind.must(t, db.Open(t)), "a")
		behind, proxy := db.Behind(t)
		e := listen(t, kind.must(t, behind.Open(t)))
		proxy.Swallow()
		require.Error(t, e.end(t))
		require.NoError(t, t.Context().Err())
	})
}

// lockWaiters counts the sessions in db's schema that wait for a named lock.
func lockWaiters(t *testing.T, db *sql.DB) (n int) {
	require.NoError(t, db.QueryRow(
		"SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND state = 'User lock'").Scan(&n))
	return n
}

// The end of a reign wakes those who wait for its lock, also when a reign began
// before anybody watched; a second election makes them look now and then.
func TestWatchWaitsForTheLockOfAReign(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "mysql" {
			t.Skip("there locks are not waited for")
		}
		leading, following := db.Open(t), db.Open(t)
		leader := kind.must(t, leading)
		mustLead(t, leader, "a")
		own, e := listen(t, leader), listen(t, kind.must(t, following))
		var waited time.Duration
		const reigns = 8
		for range reigns {
			waitFor(t, watchPatience, "both to wait for the lock", func() bool { return lockWaiters(t, following) == 2 })
			assert.Equal(t, 2, leading.Stats().InUse, "one waits, the other holds")
			assert.Equal(t, 1, following.Stats().InUse)
			mustLead(t, leader, "")
			released := time.Now()
			e.hear(t)
			waited += time.Since(released)
			own.hear(t)
			mustLead(t, leader, "a")
			own.hear(t)
			e.hear(t)
		}
		// The wait itself ends after a second, so that would be half a second each.
		assert.Less(t, waited, reigns*200*time.Millisecond)

		more := listen(t, kind.named(t, following, "other"))
		mustLead(t, kind.named(t, leading, "other"), "b")
		more.hear(t)
		mustLead(t, leader, "")
		e.hear(t)
		more.stop()
		require.ErrorIs(t, more.end(t), context.Canceled)
		mustLead(t, leader, "a")
		e.hear(t)
	})
}

// deaf is a connection that notifications do not pass, as behind a pooler.
type deaf struct {
	net.Conn
	rest []byte // what is left of the last message
}

// Read passes one message after the other. Before the server has been asked for
// a first one, a single byte may come, in answer to a request for TLS.
func (d *deaf) Read(p []byte) (int, error) {
	const notification, header = 'A', 5
	for len(d.rest) == 0 {
		message := make([]byte, header)
		if _, err := io.ReadFull(d.Conn, message); err != nil {
			return 0, err
		}
		message = append(message, make([]byte, binary.BigEndian.Uint32(message[1:])-header+1)...)
		if _, err := io.ReadFull(d.Conn, message[header:]); err != nil {
			return 0, err
		}
		if message[0] != notification {
			d.rest = message
		}
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// What swallows notifications is noticed; elections go on.
func TestWatchNoticesThatNothingArrives(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "postgres" {
			t.Skip("there nothing is sent")
		}
		config, err := pgx.ParseConfig(db.DSN)
		require.NoError(t, err)
		dial := config.DialFunc
		config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return &deaf{Conn: conn}, err
		}
		handle := stdlib.OpenDB(*config)
		defer func() { require.NoError(t, handle.Close()) }()
		s := kind.must(t, handle)
		e := startListening(t, s)
		err = e.end(t)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "listen for notifications")
		assert.Empty(t, e.rings)
		mustLead(t, s, "a")
	})
}

// Another driver's connections cannot listen, and the error says so, for good, and what a
// wrapper must offer.
func TestWatchNeedsADriverThatListens(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = dialect.PostgreSQL().Listen(t.Context(), db, conn)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	for _, text := range []string{"cannot listen", "Raw()", "Unwrap()"} {
		require.ErrorContains(t, err, text)
	}
}

// A session that listened does not return to the pool.
func TestWatchLeavesNoSessionListening(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "postgres" {
			t.Skip("there sessions do not listen")
		}
		handle := db.Open(t)
		for range 3 {
			e := listen(t, kind.must(t, handle))
			e.stop()
			require.ErrorIs(t, e.end(t), context.Canceled)
		}
		var conns []*sql.Conn
		for range handle.Stats().Idle + 1 {
			conn, err := handle.Conn(t.Context())
			require.NoError(t, err)
			conns = append(conns, conn)
			var listening int
			require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM pg_listening_channels()").Scan(&listening))
			assert.Zero(t, listening)
		}
		for _, conn := range conns {
			require.NoError(t, conn.Close())
		}
	})
}

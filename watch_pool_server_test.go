package election_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// Wake-ups take connections that the work can spare, and no other.

// shortLease is a member that loses its leadership when it gets no connection for 4 s.
func shortLease(c *election.Config) {
	c.LeaseDuration, c.RenewInterval, c.RenewDeadline = 6*time.Second, 100*time.Millisecond, 4*time.Second
}

// A pool whose limit is lowered gets back what wake-ups have taken, and a leader goes on;
// when the limit is raised, members are told of changes again.
func TestWatchGivesWayToASmallerPool(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		needsNotifications(t, db)
		handle := db.Open(t)
		p := newParty(t)
		p.ctx, p.watches = t.Context(), true
		a := p.join("a", kind.must(t, handle), shortLease)
		locks := db.Engine == "mysql" // by which others notice the end of the reign
		taken := 1
		if locks {
			taken = 2
		}
		for range 2 {
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			waitFor(t, time.Minute, "a is told of changes", func() bool { return a.Status().Watching })
			waitFor(t, time.Minute, "all is taken", func() bool { return handle.Stats().InUse >= taken })
			if locks {
				handle.SetMaxOpenConns(2)
				renewed := a.Status().RenewedAt
				waitFor(t, time.Minute, "a renews, and is told", func() bool { return a.Status().RenewedAt.After(renewed) && a.Status().Watching })
			}
			handle.SetMaxOpenConns(1)
			waitFor(t, time.Minute, "wake-ups give way, and say why", func() bool {
				s := a.Status() // a busy pool is another reason, before the lower limit is found
				return !s.Watching && s.WatchErr != nil && strings.Contains(s.WatchErr.Error(), "SetMaxOpenConns")
			})
			dbtest.Exec(t, handle, "SELECT 1")
			renewed := a.Status().RenewedAt
			waitFor(t, time.Minute, "a renews", func() bool { return a.Status().RenewedAt.After(renewed) && a.IsLeader() })
			handle.SetMaxOpenConns(0)
		}
		p.stopAll()
		p.log.requireSound(t)
	})
}

// A pool of one that database/sql does not know of keeps its connection for the work: the
// leadership is not lost for a hint.
func TestWatchLeavesAPoolOfOneBelow(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "postgres" {
			t.Skip("there is no such pool")
		}
		config, err := pgxpool.ParseConfig(db.DSN)
		require.NoError(t, err)
		config.MaxConns = 1
		below, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		defer below.Close()
		handle := stdlib.OpenDBFromPool(below)
		defer func() { require.NoError(t, handle.Close()) }()
		p := newParty(t)
		p.ctx = t.Context()
		tries := make(chan error, 100)
		s := kind.must(t, handle)
		p.watches = true
		a := p.join("a", watchTried{s, tries}, shortLease)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		for range 4 {
			select {
			case err := <-tries:
				require.ErrorContains(t, err, "no second connection")
			case <-time.After(time.Minute):
				require.FailNow(t, "it does not try")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			_, err := handle.ExecContext(ctx, "SELECT 1")
			cancel()
			require.NoError(t, err)
		}
		assert.True(t, a.IsLeader())
		p.stopAll()
		assert.Len(t, p.log.all(), 1, "one reign")
	})
}

// watchTried tells what Watch returns.
type watchTried struct {
	election.Storage
	tries chan<- error
}

func (w watchTried) Watch(ctx context.Context, changed func()) error {
	err := w.Storage.(election.Watcher).Watch(ctx, changed)
	w.tries <- err
	return err
}

// A second connection that takes its time is waited for, without keeping the first one.
func TestWatchOnASlowLink(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		behind, proxy := db.Behind(t)
		s := kind.must(t, behind.Open(t))
		proxy.Delay(60 * time.Millisecond) // a new connection takes several round trips
		e := listen(t, s)
		mustLead(t, kind.must(t, db.Open(t)), "a")
		e.hear(t)
	})
}

// What ends idle connections ends none that listens, nor one that holds a leader's lock.
func TestWatchIsNeverIdleForLong(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		behind, proxy := db.Behind(t)
		proxy.CutIdle(5 * time.Second)
		s := kind.must(t, behind.Open(t))
		mustLead(t, s, "a")
		e := listen(t, s)
		begun := time.Now()
		waitFor(t, time.Minute, "the time of two limits has passed", func() bool {
			if len(e.ended) > 0 {
				require.NoError(t, e.end(t))
			}
			return time.Since(begun) > 11*time.Second
		})
		mustLead(t, kind.must(t, db.Open(t)), "b")
		for len(e.rings) > 0 {
			<-e.rings
		}
		mustLead(t, kind.must(t, db.Open(t)), "c")
		e.hear(t)
	})
}

// A server that ends idle sessions ends none that listens.
func TestWatchOutlastsIdleSessionTimeout(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "postgres" {
			t.Skip("it is used each second")
		}
		impatient := withSettings(t, db, nil, map[string]string{"idle_session_timeout": "4000"})
		handle := impatient.Open(t)
		e := listen(t, kind.must(t, handle))
		uses := make(map[time.Time]bool)
		waitFor(t, time.Minute, "the session is used again and again", func() bool {
			uses[lastPing(t, handle)] = true
			return len(uses) > 6
		})
		select {
		case err := <-e.ended:
			require.NoError(t, err)
			require.Fail(t, "the watch has ended")
		default:
		}
	})
}

// lastPing is when a listening session of the database was last used; the zero time: never.
func lastPing(t *testing.T, handle *sql.DB) time.Time {
	t.Helper()
	var used sql.NullTime
	require.NoError(t, handle.QueryRow(`SELECT MAX(state_change) FROM pg_stat_activity
		WHERE query = 'SELECT pg_notification_queue_usage() < 0.5' AND pid <> pg_backend_pid() AND state = 'idle' AND datname = current_database()`).Scan(&used))
	return used.Time
}

// A session that hears something all the time is idle to its server all the same.
func TestWatchThatHearsIsNotIdle(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "postgres" {
			t.Skip("it is used each second")
		}
		handle := withSettings(t, db, nil, map[string]string{"idle_session_timeout": "4000"}).Open(t)
		e := listen(t, kind.must(t, handle))
		uses := make(map[time.Time]bool)
		waitFor(t, time.Minute, "the session is used all the same", func() bool {
			if len(e.ended) > 0 {
				require.NoError(t, e.end(t))
			}
			dbtest.Exec(t, handle, "SELECT pg_notify('sqlelect', 'of another election')")
			uses[lastPing(t, handle)] = true
			return len(uses) > 3
		})
	})
}

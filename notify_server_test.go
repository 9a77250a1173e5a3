package election_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// smallQueue is a PostgreSQL server with the smallest queue of notifications.
func smallQueue(t *testing.T) *dbtest.OwnServer {
	server := dbtest.RequireServer(t, "postgres")
	db := openOwn(t, server)
	if _, err := db.Exec("ALTER SYSTEM SET max_notify_queue_pages = 64"); err != nil {
		t.Skip("before version 17 the queue takes 8 GB: ", err)
	}
	require.NoError(t, server.Stop(t.Context()))
	require.NoError(t, server.Start(t.Context()))
	return server
}

// fillQueue lets somebody listen who takes no notification, and notifies until the queue is full.
func fillQueue(t *testing.T, db *sql.DB) {
	dbtest.Begin(t, db, "LISTEN other", "COMMIT", "BEGIN", "SELECT 1")
	for {
		_, err := db.Exec("SELECT pg_notify('other', repeat('x', 7900))")
		if err != nil {
			require.ErrorContains(t, err, "54000")
			return
		}
	}
}

// A queue of notifications that is full, which is another program's doing, keeps nobody
// from being elected and released, leaves no error in the server's log, and Status says
// that nobody is told.
func TestChangeWhileTheQueueOfNotificationsIsFull(t *testing.T) {
	t.Parallel()
	server := smallQueue(t)
	for _, kind := range storageKinds() {
		s := kind.named(t, openOwn(t, server), kind.name)
		e := listen(t, s)
		e.stop()
		require.ErrorIs(t, e.end(t), context.Canceled)
	}
	early := newParty(t) // it listens when the queue becomes full
	early.ctx, early.watches = t.Context(), true
	e := early.join("early", storageKinds()[0].named(t, openOwn(t, server), "early"))
	waitFor(t, time.Minute, "it is told of changes", func() bool { return e.Status().Watching })
	db := openOwn(t, server)
	fillQueue(t, db)
	waitFor(t, time.Minute, "it is told of none, and knows", func() bool {
		s := e.Status()
		return !s.Watching && s.WatchErr != nil && strings.Contains(s.WatchErr.Error(), "queue of notifications is full")
	})
	early.stopAll()
	_, begin := logged(t, server, "log", 0)
	for _, kind := range storageKinds() {
		handle := openOwn(t, server)
		s := kind.named(t, handle, kind.name)
		for _, leader := range []string{"a", "b", ""} {
			mustLead(t, s, leader)
		}
		dbtest.Exec(t, handle, "DELETE FROM election WHERE slot = 1") // so that the next change goes step by step
		mustLead(t, s, "c")
		mustLead(t, s, "")
		p := newParty(t)
		p.ctx, p.watches = t.Context(), true
		a := p.join("a", s)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		waitFor(t, time.Minute, "the reason is known", func() bool { return a.Status().WatchErr != nil })
		assert.ErrorContains(t, a.Status().WatchErr, "queue of notifications is full")
		p.stopAll()
		p.log.requireSound(t)
	}
	text, _ := logged(t, server, "log", begin)
	for line := range strings.Lines(text) {
		assert.NotContains(t, line, "too many notifications")
	}
}

// A queue that has become full since a change has looked costs another attempt.
func TestChangeThatCannotNotifyIsMadeWithout(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "postgres" {
			t.Skip("nothing is sent there")
		}
		fresh := db.Fresh(t)
		handle := fresh.Open(t)
		s := kind.must(t, handle)
		mustLead(t, s, "a")
		// COMMIT fails as it does when the queue is full, three times.
		dbtest.Exec(t, handle, "CREATE SEQUENCE refusals")
		dbtest.Exec(t, handle, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF nextval('refusals') <= 3 THEN RAISE 'full' USING ERRCODE = '54000'; END IF; RETURN NULL; END $$`)
		dbtest.Exec(t, handle, `CREATE CONSTRAINT TRIGGER refuses AFTER UPDATE ON election DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION refuse()`)
		r, err := s.Get(t.Context())
		require.NoError(t, err)
		r.LeaderID, r.Term = "b", r.Term+1
		require.NoError(t, s.Update(t.Context(), r, true))
		r, err = s.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "b", r.LeaderID)
		var refusals int
		require.NoError(t, handle.QueryRow("SELECT last_value FROM refusals").Scan(&refusals))
		require.Equal(t, 4, refusals)
	})
}

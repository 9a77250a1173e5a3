package election_test

import (
	"database/sql"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// logged returns what a server has written into one of its files since offset, and the
// offset of what comes next.
func logged(t testing.TB, server *dbtest.OwnServer, name string, offset int) (text string, next int) {
	t.Helper()
	all, err := os.ReadFile(server.Path(name))
	require.NoError(t, err)
	return string(all[offset:]), len(all)
}

// openOwn opens handles on a server of the test's own.
func openOwn(t testing.TB, server *dbtest.OwnServer) *sql.DB {
	t.Helper()
	db, err := sql.Open(server.Driver, server.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Members that come, hand over, race and wait for guarded transactions leave no error in
// the log of the server: alerts look for these.
func TestNothingInTheServersLog(t *testing.T) {
	t.Parallel()
	server := dbtest.RequireServer(t, "postgres")
	for _, kind := range storageKinds() {
		open := func() election.Storage { return kind.named(t, openOwn(t, server), kind.name) }
		stores := []election.Storage{open(), open(), open()}
		_, begin := logged(t, server, "log", 0)
		raceForTheLead(t, stores)
		changeBehindAGuard(t, stores)
		changeBehindARenewal(t, server, kind, stores[1])
		p := newParty(t)
		p.ctx, p.watches = t.Context(), true
		for i, s := range stores {
			p.join(string(rune('a'+i)), s)
		}
		for range 5 {
			waitFor(t, time.Minute, "somebody leads", func() bool { return p.leader() != nil })
			require.NoError(t, p.leader().ResignLeader(t.Context(), 0))
		}
		p.stopAll()
		p.log.requireSound(t)
		text, _ := logged(t, server, "log", begin)
		for line := range strings.Lines(text) {
			for _, level := range []string{"WARNING:", "ERROR:", "FATAL:", "PANIC:"} {
				assert.NotContains(t, line, level, kind.name)
			}
		}
		if t.Failed() {
			t.Log(text) // an error's next lines name its statement
			return
		}
	}
}

// raceForTheLead lets all replace the same record, again and again.
func raceForTheLead(t *testing.T, stores []election.Storage) {
	for range 20 {
		r, err := stores[0].Get(t.Context())
		require.NoError(t, err)
		won := make([]bool, len(stores))
		var racers sync.WaitGroup
		for i, s := range stores {
			racers.Go(func() {
				mine := r.Clone()
				mine.LeaderID, mine.Term = string(rune('a'+i)), r.Term+1
				err := s.Update(t.Context(), mine, true)
				if won[i] = err == nil; err != nil {
					assert.ErrorIs(t, err, election.ErrRecordConflict)
				}
			})
		}
		racers.Wait()
		winners := 0
		for _, w := range won {
			if w {
				winners++
			}
		}
		require.Equal(t, 1, winners)
	}
}

// changeBehindAGuard makes a change of leader that has to wait for a guarded transaction.
func changeBehindAGuard(t *testing.T, stores []election.Storage) {
	mustLead(t, stores[0], "a")
	r, err := stores[1].Get(t.Context())
	require.NoError(t, err)
	changed := make(chan error, 1)
	require.NoError(t, guarded(t.Context(), stores[0], "a", func(tx *sql.Tx) error {
		go func() {
			r.LeaderID, r.Term = "b", r.Term+1
			changed <- stores[1].Update(t.Context(), r, true)
		}()
		waitFor(t, time.Minute, "the change waits", func() bool {
			var waiting bool
			err := tx.QueryRow("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory')").Scan(&waiting)
			require.NoError(t, err)
			return waiting
		})
		return nil
	}))
	require.NoError(t, <-changed)
}

// changeBehindARenewal makes a change of leader while somebody else holds the record's row.
func changeBehindARenewal(t *testing.T, server *dbtest.OwnServer, kind storageKind, s election.Storage) {
	r, err := s.Get(t.Context())
	require.NoError(t, err)
	r.LeaderID, r.Term = "c", r.Term+1
	db := openOwn(t, server)
	var held bool
	renewal := dbtest.Begin(t, db, "SELECT 1 FROM election WHERE election = '"+kind.name+"' AND slot = 0 FOR UPDATE")
	changed := make(chan error, 1)
	go func() { changed <- s.Update(t.Context(), r, true) }()
	waitFor(t, time.Minute, "the change waits", func() bool {
		require.NoError(t, db.QueryRow("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)").Scan(&held))
		return held
	})
	renewal.Commit()
	require.NoError(t, <-changed)
}

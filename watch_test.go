package election_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"runtime/pprof"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// watchPatience is for machines that do ten things at once; a wake-up takes
// milliseconds.
const watchPatience = 30 * time.Second

// ear is somebody who watches.
type ear struct {
	rings chan struct{}
	ended chan error
	stop  context.CancelFunc
}

// listen starts to watch, and returns when that has begun.
func listen(t testing.TB, s election.Storage) *ear {
	t.Helper()
	e := startListening(t, s)
	e.hear(t)
	return e
}

func startListening(t testing.TB, s election.Storage) *ear {
	ctx, stop := context.WithCancel(t.Context())
	e := &ear{rings: make(chan struct{}, 1000), ended: make(chan error, 1), stop: stop}
	t.Cleanup(stop)
	go func() {
		e.ended <- s.(election.Watcher).Watch(ctx, func() { e.rings <- struct{}{} })
	}()
	return e
}

// hear waits until it rings.
func (e *ear) hear(t testing.TB) {
	t.Helper()
	select {
	case <-e.rings:
	case err := <-e.ended:
		require.FailNow(t, "stopped watching", "%v", err)
	case <-time.After(watchPatience):
		require.FailNow(t, "heard nothing")
	}
}

// end waits until Watch returns, and returns its error.
func (e *ear) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-e.ended:
		return err
	case <-time.After(watchPatience):
		require.FailNow(t, "Watch did not return")
		return nil
	}
}

// needsNotifications skips where members have to poll.
func needsNotifications(t *testing.T, db *dbtest.Database) {
	t.Helper()
	if db.Direct != nil {
		t.Skip("no notification passes the pooler")
	}
}

// named opens one election on a handle.
func (k storageKind) named(t testing.TB, db *sql.DB, name string) election.Storage {
	t.Helper()
	s, err := k.open(db, "", name)
	require.NoError(t, err)
	return s
}

// Acquisitions and releases are heard through every handle, also when the member
// that made them does not watch, and by the handle that made them.
func TestWatchHearsChangesOfLeader(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		needsNotifications(t, db)
		for table, name := range map[string]string{"": "", "what? 50%": "named 'ä'?"} {
			open := func() election.Storage {
				s, err := kind.open(db.Open(t), table, name)
				require.NoError(t, err)
				return s
			}
			a, b := open(), open()
			far := listen(t, b)
			mustLead(t, a, "a")
			far.hear(t)
			mustLead(t, a, "")
			far.hear(t)
			near := listen(t, a)
			for _, leader := range []string{"a", "", "b", "c"} {
				mustLead(t, a, leader)
				near.hear(t)
				far.hear(t)
			}
			assert.Empty(t, near.rings)
			assert.Empty(t, far.rings)
			near.stop()
			require.ErrorIs(t, near.end(t), context.Canceled)
			mustLead(t, a, "")
			far.hear(t)
			far.stop()
			require.ErrorIs(t, far.end(t), context.Canceled)
		}
	})
}

// What other processes commit is heard without their help, where the database
// sends nothing itself.
func TestWatchLooks(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine == "postgres" {
			t.Skip("there the change of leader itself notifies")
		}
		handle := db.Open(t)
		s := openSQL(t, handle)
		mustLead(t, s, "a")
		e := listen(t, s)
		other := db.Open(t)
		other.SetMaxOpenConns(1)
		for term := range 5 {
			const update = "UPDATE election SET leader_id = 'b', version = ? WHERE id = 2"
			waitFor(t, watchPatience, "the lock of the file", func() bool {
				_, err := other.Exec(update, 10+term)
				return err == nil
			})
			e.hear(t)
		}
		assert.Empty(t, e.rings)
	})
}

// Renewals do not ring, nor does another election of the same table.
func TestWatchIsSilentAtRenewals(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		needsNotifications(t, db)
		leader, handle := db.Open(t), db.Open(t)
		mustLead(t, kind.must(t, leader), "a")
		quiet, loud := listen(t, kind.must(t, handle)), listen(t, kind.named(t, handle, "loud"))
		for range 5 {
			for range 10 {
				renewed := kind.must(t, leader)
				r, err := renewed.Get(t.Context())
				require.NoError(t, err)
				require.NoError(t, renewed.Update(t.Context(), r, false))
			}
			mustLead(t, kind.named(t, leader, "loud"), "b")
			loud.hear(t) // all rows are looked at in one go, and notifications keep their order
		}
		assert.Empty(t, quiet.rings)
		assert.Empty(t, loud.rings)
		mustLead(t, kind.must(t, leader), "b")
		quiet.hear(t)
		assert.Empty(t, loud.rings)
	})
}

// All watchers on a handle share one connection, and give it back in the end.
func TestWatchersShareAConnection(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		needsNotifications(t, db)
		handle := db.Open(t)
		var ears []*ear
		for i := range 120 { // more than are looked at in one statement
			for _, kind := range storageKinds() {
				ears = append(ears, listen(t, kind.named(t, handle, fmt.Sprint("election ", i))))
			}
		}
		assert.Equal(t, 1, handle.Stats().InUse)
		for i, e := range ears {
			mustLead(t, storageKinds()[0].named(t, handle, fmt.Sprint("election ", i/2)), fmt.Sprint("leader ", i))
			e.hear(t)
		}
		for _, e := range ears {
			e.stop()
		}
		for _, e := range ears {
			require.ErrorIs(t, e.end(t), context.Canceled)
		}
		assert.Zero(t, handle.Stats().InUse)
	})
}

// Watch leaves no goroutine and no connection, and nothing set on the pool's.
func TestWatchLeavesNothing(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		needsNotifications(t, db)
		handle := db.Open(t)
		s := kind.must(t, handle)
		for range 3 {
			// What a goroutine starts inherits its labels.
			pprof.Do(t.Context(), pprof.Labels("watch", t.Name()), func(ctx context.Context) {
				ctx, stop := context.WithCancel(ctx)
				defer stop()
				rings := make(chan struct{}, 100)
				ended := make(chan error)
				go func() { ended <- s.(election.Watcher).Watch(ctx, func() { rings <- struct{}{} }) }()
				<-rings
				mustLead(t, s, "a")
				<-rings
				mustLead(t, s, "b") // a reign that goes on
				<-rings
				stop()
				require.ErrorIs(t, <-ended, context.Canceled)
			})
			assert.Zero(t, handle.Stats().InUse)
		}
		// Those of drivers end soon after their connections.
		require.NoError(t, handle.Close())
		waitFor(t, watchPatience, "the goroutines", func() bool {
			var profile bytes.Buffer
			require.NoError(t, pprof.Lookup("goroutine").WriteTo(&profile, 1))
			return !bytes.Contains(profile.Bytes(), []byte(fmt.Sprintf("%q", t.Name())))
		})
	})
}

// A bubble ends only when every goroutine in it has: none outlives Watch, and
// none waits on the real clock. A member in the same process does not wait for
// the next look at the file, for which time would have to pass.
func TestWatchOnVirtualTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := dbtest.SQLite(t)
		handle := db.Open(t)
		s, rival := openSQL(t, handle), openSQL(t, db.Open(t))
		for range 3 {
			e, other := listen(t, s), listen(t, s.Election("other"))
			<-time.After(10 * time.Second)
			start := time.Now()
			mustLead(t, rival, "a")
			e.hear(t)
			require.Zero(t, time.Since(start))
			e.stop()
			require.ErrorIs(t, e.end(t), context.Canceled)
			<-time.After(10 * time.Second)
			other.stop()
			require.ErrorIs(t, other.end(t), context.Canceled)
			require.Empty(t, other.rings)
			require.Zero(t, handle.Stats().InUse)
		}
	})
}

// Watch never takes a pool's only connection.
func TestWatchNeedsAPool(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		needsNotifications(t, db)
		s := kind.must(t, db.OpenSingle(t))
		require.ErrorContains(t, startListening(t, s).end(t), "only one connection")
		mustLead(t, s, "a")

		handle := db.Open(t)
		handle.SetMaxOpenConns(2)
		s = kind.must(t, handle)
		e := listen(t, s)
		for range 10 {
			mustLead(t, s, "a")
			e.hear(t)
		}
		assert.Equal(t, 1, handle.Stats().InUse)
	})
}

// A bad name is the caller's to hear of, and an ended ctx is no failure.
func TestWatchRefuses(t *testing.T) {
	t.Parallel()
	s := openSQL(t, dbtest.SQLite(t).Open(t))
	require.ErrorContains(t, s.Election("a\x00").Watch(t.Context(), func() {}), "NUL")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, context.Canceled, s.Watch(ctx, func() { panic("was called") }))
}

// BenchmarkWatch is how long after the return of an Update that releases the
// leadership another handle, of the same process, is called.
func BenchmarkWatch(b *testing.B) {
	databases := append([]*dbtest.Database{dbtest.SQLite(b)}, dbtest.Servers(b)...)
	for _, db := range databases {
		b.Run(db.Name, func(b *testing.B) {
			leader, follower := openSQL(b, db.Open(b)), openSQL(b, db.Open(b))
			own, e := listen(b, leader), listen(b, follower)
			var waits []time.Duration
			for b.Loop() {
				mustLead(b, leader, "a")
				own.hear(b)
				e.hear(b)
				settle(b)
				r, err := leader.Get(b.Context())
				require.NoError(b, err)
				r.LeaderID = ""
				require.NoError(b, leader.Update(b.Context(), r, true))
				released := time.Now()
				e.hear(b)
				waits = append(waits, time.Since(released))
				own.hear(b)
			}
			slices.Sort(waits)
			for _, q := range []int{50, 99} {
				b.ReportMetric(float64(waits[len(waits)*q/100].Microseconds()), fmt.Sprintf("us-p%d", q))
			}
		})
	}
}

// settle is for how long a leader leads at least: listeners have found by then
// what they can wait for.
func settle(b *testing.B) {
	select {
	case <-b.Context().Done():
	case <-time.After(60 * time.Millisecond):
	}
}

package election_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// A pool of one connection that a long query occupies: the renewal fails with an
// error that says so, the leader stops in time, and nothing hangs.
func TestTrap18PoolOfOneConnection(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			handle := db.OpenSingle(t)
			storage, err := kind.open(handle, "", "")
			require.NoError(t, err)
			failures := make(chan error, 1000)
			p := newParty(t)
			a := p.join("a", storage, func(c *election.Config) {
				c.OnEvent = func(e election.Event) {
					if e.Kind == election.EventStorageError {
						failures <- e.Err
					}
				}
			})
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			busy, err := handle.Conn(t.Context())
			require.NoError(t, err)
			taken := time.Now()
			waitFor(t, time.Minute, "a stops", func() bool { return !a.IsLeader() })
			require.LessOrEqual(t, time.Since(taken), election.DefaultRenewDeadline)
			require.ErrorContains(t, <-failures, "connection pool")
			require.ErrorContains(t, a.Status().Err, "connection pool")
			require.NoError(t, busy.Close())
			waitFor(t, time.Minute, "a leads again", a.IsLeader)
			require.NoError(t, a.Status().Err)
		})
	})
}

package election_test

import (
	"context"
	"database/sql"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// The callback's ctx fences by term: a transaction of an earlier reign of the
// same member does not commit in a later one.
func TestTrap02ContextOfAnEarlierReign(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			storage, err := kind.open(db.Open(t), "", "shard 7")
			require.NoError(t, err)
			reigns := make(chan context.Context, 2)
			p := newParty(t)
			a := p.join("a", storage, func(c *election.Config) {
				c.LeaderCallback = func(ctx context.Context) error {
					reigns <- context.WithoutCancel(ctx)
					return stay(ctx)
				}
			})
			commits := func(ctx context.Context) {
				t.Helper()
				require.NoError(t, guardedBy(storage, ctx, "a"))
			}
			first := <-reigns
			commits(first)
			require.NoError(t, a.ResignLeader(t.Context(), 0))
			second := <-reigns
			commits(second)
			commits(t.Context()) // without a reign, the ID alone
			require.ErrorIs(t, guardedBy(storage, first, "a"), election.ErrNotLeader)
			require.ErrorIs(t, guardedBy(storage, second, "b"), election.ErrNotLeader)
		})
	})
}

// guardedBy runs an empty guarded transaction on either kind of storage.
func guardedBy(storage election.Storage, ctx context.Context, id string) error {
	if s, ok := storage.(*election.ORMStorage); ok {
		return s.TxnWithLeaderLock(ctx, id, ormNothing)
	}
	return storage.(*election.SQLStorage).TxnWithLeaderLock(ctx, id, func(*sql.Tx) error { return nil })
}

// A guarded transaction that lasts longer than RenewInterval is reported: on an
// engine with one writer it holds up the renewals.
func TestGuardThatIsSlowIsReported(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			storage, err := kind.open(db.Open(t), "", "")
			require.NoError(t, err)
			slow := make(chan election.Event, 10)
			took := make(chan error, 1)
			p := newParty(t)
			p.join("a", storage, func(c *election.Config) {
				c.OnEvent = func(e election.Event) {
					if e.Kind == election.EventGuardSlow {
						slow <- e
					}
				}
				c.LeaderCallback = func(ctx context.Context) error {
					took <- guardedFor(storage, ctx, "a", election.DefaultRenewInterval+time.Second)
					return stay(ctx)
				}
			})
			require.NoError(t, <-took)
			e := <-slow
			require.Greater(t, e.Duration, election.DefaultRenewInterval)
			require.NotZero(t, e.Term)
		})
	})
}

// guardedFor holds a guarded transaction open for d of virtual time.
func guardedFor(storage election.Storage, ctx context.Context, id string, d time.Duration) error {
	if s, ok := storage.(*election.ORMStorage); ok {
		return s.TxnWithLeaderLock(ctx, id, func(*gorm.DB) error {
			<-time.After(d) // virtual time
			return nil
		})
	}
	return storage.(*election.SQLStorage).TxnWithLeaderLock(ctx, id, func(*sql.Tx) error {
		<-time.After(d) // virtual time
		return nil
	})
}

package election_test

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/storagetest"
)

// A release is written on the record as it was last read or written, if that is no
// older than half a round may last; else it is read again.
func TestReleaseNeedsNoNewRead(t *testing.T) {
	for name, tc := range map[string]struct {
		age   time.Duration
		fails int // reads from then on
		want  []string
	}{
		"Fresh":      {900 * time.Millisecond, 0, []string{"release"}},
		"Old":        {1100 * time.Millisecond, 0, []string{"get", "release"}},
		"Unreadable": {1100 * time.Millisecond, 1, []string{"get", "get", "release"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParty(t)
				calls := make(chan string, 100)
				var failing atomic.Int64
				a := p.join("a", &hooked{
					Storage: storagetest.NewMemory(),
					get: func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
						calls <- "get"
						if failing.Add(-1) >= 0 {
							return nil, errors.New("out of reach")
						}
						return next(ctx)
					},
					update: func(ctx context.Context, r *election.Record, changed bool, next func(context.Context) error) error {
						kind := "renewal"
						if changed && r.LeaderID == "" {
							kind = "release"
						}
						calls <- kind
						return next(ctx)
					},
				})
				waitFor(t, time.Minute, "a leads", a.IsLeader)
				for drained := false; !drained; { // the renewal whose age counts
					drained = <-calls == "renewal" && len(p.log.all()) == 1 && a.Status().RenewedAt.Equal(time.Now())
				}
				<-time.After(tc.age) // virtual time
				require.Empty(t, calls)
				failing.Store(int64(tc.fails))
				require.NoError(t, a.ResignLeader(t.Context(), time.Hour))
				for _, want := range tc.want {
					require.Equal(t, want, <-calls)
				}
			})
		})
	}
}

// Guarded transactions that overlap, and last longer than a round may, hold a change of
// leader up for as long as those last that were there first, and not for good: an
// attempt that gave up after a round would lose its place in the queue each time.
func TestChangeOutwaitsGuardedTransactions(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		const hold = 800 * time.Millisecond
		quick := func(c *election.Config) { // a round may take 0.5 s
			c.LeaseDuration, c.RenewInterval, c.RenewDeadline = 4*time.Second, 500*time.Millisecond, 2*time.Second
		}
		p := newParty(t)
		p.ctx = t.Context()
		storage := openSQL(t, db.Open(t))
		a := p.join("a", storage, quick)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		b := p.join("b", openSQL(t, db.Open(t)), quick)
		ctx, stop := context.WithCancel(t.Context())
		var working sync.WaitGroup
		defer working.Wait()
		defer stop()
		const workers = 4
		begun := make(chan struct{}, workers)
		for i := range workers {
			working.Go(func() {
				stagger, cancel := context.WithTimeout(ctx, time.Duration(i)*hold/workers)
				<-stagger.Done()
				cancel()
				for first := true; ctx.Err() == nil; first = false {
					_ = storage.TxnWithLeaderLock(ctx, "a", func(*sql.Tx) error { // no reign in ctx: the ID alone
						if first {
							begun <- struct{}{}
						}
						held, cancel := context.WithTimeout(ctx, hold)
						defer cancel()
						<-held.Done()
						return nil
					})
				}
			})
		}
		for range workers {
			<-begun
		}
		require.NoError(t, a.ResignLeader(t.Context(), time.Hour))
		waitFor(t, 10*time.Second, "b leads", b.IsLeader)
		p.stopAll()
		p.log.requireSound(t)
	})
}

// An acquisition may take so long, behind guarded transactions, that its renewal is due
// when it is acknowledged: it follows at once, and the reign lasts.
func TestLateAcquisitionIsRenewedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		slow := func(ctx context.Context, r *election.Record, changed bool, next func(context.Context) error) error {
			if changed && r.LeaderID != "" {
				<-time.After(5900 * time.Millisecond) // virtual time
			}
			return next(ctx)
		}
		a := p.join("a", &hooked{Storage: storagetest.NewMemory(), update: slow})
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		began := time.Now()
		waitFor(t, time.Minute, "a renewal", func() bool { return a.Status().TrustLeft > 7*time.Second })
		require.Less(t, time.Since(began), 100*time.Millisecond)
		<-time.After(time.Minute) // virtual time
		require.Len(t, p.log.all(), 1)
		require.True(t, a.IsLeader())
	})
}

// A member that is stopped while its acquisition waits gives that up, and leaves.
func TestStopDuringAnAcquisition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		memory := storagetest.NewMemory()
		a := p.join("a", memory.Handle())
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		trying := make(chan struct{}, 100)
		waits := func(ctx context.Context, r *election.Record, changed bool, next func(context.Context) error) error {
			if changed && r.LeaderID == "b" {
				trying <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			}
			return next(ctx)
		}
		b := p.join("b", &hooked{Storage: memory.Handle(), update: waits})
		<-time.After(5 * time.Second) // virtual time
		require.NoError(t, a.ResignLeader(t.Context(), time.Hour))
		<-trying
		<-time.After(time.Second) // virtual time
		require.ErrorIs(t, b.leave(), context.Canceled)
		_, left := memory.Rows().Record.FindMember("b")
		require.False(t, left)
	})
}

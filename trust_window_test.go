package election_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// A write that is stored at once and acknowledged late must not lengthen the
// trust: it counts from the start of the call.
func TestTrap06TrustCountsFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var slow atomic.Bool
		var lastStart atomic.Int64
		storage := &hooked{Storage: memory.Handle()}
		storage.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
			lastStart.Store(time.Now().UnixNano())
			err := next(ctx)
			if slow.Load() {
				<-time.After(1900 * time.Millisecond)
			}
			return err
		}
		storage.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
			if slow.Load() && time.Now().UnixNano()-lastStart.Load() > int64(2*time.Second) {
				<-ctx.Done() // after one slow acknowledgement the storage is gone
				return nil, ctx.Err()
			}
			return next(ctx)
		}
		a := p.join("a", storage)
		synctest.Wait()
		require.True(t, a.IsLeader())
		before := lastStart.Load()
		slow.Store(true)
		waitFor(t, time.Minute, "a late renewal", func() bool { return lastStart.Load() != before })
		waitFor(t, time.Minute, "a steps down", func() bool { return !a.IsLeader() })
		trusted := time.Duration(time.Now().UnixNano() - lastStart.Load())
		require.LessOrEqual(t, trusted, election.DefaultRenewDeadline+time.Millisecond)
		require.Greater(t, trusted, election.DefaultRenewDeadline-time.Second, "the late acknowledgement counts, from its start")
	})
}

// A renewal that happens during a read, and is shown by it, must not be dated
// back to the read's start: the observer stamps it with the reply in hand.
func TestTrap06ObservationIsStampedAfterTheRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var lastRenewal, readStart atomic.Int64
		var armed, dead atomic.Bool
		leader := &hooked{Storage: memory.Handle()}
		leader.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
			if dead.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			err := next(ctx)
			now := time.Now().UnixNano()
			if err == nil {
				lastRenewal.Store(now)
				// The leader's last renewal is one that falls late into a read of b.
				dead.Store(armed.Load() && readStart.Load() != 0 && now-readStart.Load() > int64(time.Second))
			}
			return err
		}
		p.join("a", leader)
		synctest.Wait()
		// While a lives, b's reads take 1.9 s and answer with what stands at their end.
		reader := &hooked{Storage: memory.Handle()}
		reader.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
			if !dead.Load() {
				readStart.Store(time.Now().UnixNano())
				<-time.After(1900 * time.Millisecond)
				readStart.Store(0)
			}
			return next(context.WithoutCancel(ctx))
		}
		b := p.join("b", reader)
		<-time.After(20 * time.Second)
		armed.Store(true)
		waitFor(t, time.Hour, "b leads", b.IsLeader)
		silent := time.Duration(time.Now().UnixNano() - lastRenewal.Load())
		require.GreaterOrEqual(t, silent, election.DefaultLeaseDuration)
		require.LessOrEqual(t, silent, election.DefaultLeaseDuration+election.DefaultRenewInterval)
		p.log.requireSound(t)
	})
}

// The callback's ctx ends by RenewDeadline after the start of the last renewal,
// whether the storage fails, hangs, or hangs and ignores its ctx.
func TestTrap07LossOfTheStorage(t *testing.T) {
	for name, broken := range map[string]func(ctx context.Context) error{
		"fails":           func(context.Context) error { return errors.New("connection refused") },
		"hangs":           func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"ignores its ctx": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				p := newParty(t)
				release := make(chan struct{})
				if broken == nil {
					broken = func(context.Context) error { <-release; return errors.New("at last") }
				}
				var gone atomic.Bool
				var lastAcked, started atomic.Int64
				storage := &hooked{Storage: memory.Handle()}
				storage.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
					if gone.Load() {
						return nil, broken(ctx)
					}
					return next(ctx)
				}
				storage.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
					started.Store(time.Now().UnixNano())
					if gone.Load() {
						return broken(ctx)
					}
					err := next(ctx)
					if err == nil {
						lastAcked.Store(started.Load())
					}
					return err
				}
				a := p.join("a", storage)
				synctest.Wait()
				b := p.join("b", memory.Handle())
				<-time.After(time.Minute + 100*time.Millisecond)
				gone.Store(true)
				waitFor(t, time.Minute, "the callback stops", func() bool { return !p.log.all()[0].exit.IsZero() })
				stopped := p.log.all()[0]
				require.False(t, a.IsLeader())
				require.ErrorIs(t, stopped.cause, election.ErrLeaseExpired)
				took := stopped.exit.Sub(time.Unix(0, lastAcked.Load()))
				require.LessOrEqual(t, took, election.DefaultRenewDeadline)
				require.Greater(t, took, election.DefaultRenewDeadline-election.DefaultRenewInterval)
				waitFor(t, time.Minute, "b leads", b.IsLeader)
				a.cancel()
				<-a.done // also while storage calls hang
				close(release)
				p.log.requireSound(t)
			})
		})
	}
}

// A leader whose wall clock stands still is not deposed.
func TestTrap14FrozenRenewTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		frozen := time.Now()
		storage := &hooked{Storage: memory.Handle()}
		storage.update = func(ctx context.Context, r *election.Record, changed bool, _ func(context.Context) error) error {
			r = r.Clone()
			if own, ok := r.FindMember("a"); ok {
				own.RenewTime = frozen
			}
			return memory.Update(ctx, r, changed)
		}
		a := p.join("a", storage)
		synctest.Wait()
		p.join("b", memory.Handle())
		<-time.After(5 * time.Minute)
		require.True(t, a.IsLeader())
		require.Len(t, p.log.all(), 1)
	})
}

func TestElectorLeaderKnowsItselfAfterALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		a := p.join("a", storagetest.NewMemory())
		<-time.After(time.Minute)
		require.True(t, a.IsLeader())
		leader, ok := a.GetLeader()
		require.True(t, ok)
		require.Equal(t, "a", leader.ID)
		require.Equal(t, "a", a.Status().Leadership.Leader.ID)
		require.Equal(t, "a", (<-a.Observe(t.Context())).Leader.ID)
	})
}

// A lease that runs out while a follower's own renewal is under way is acted on
// when that ends, not a poll later.
func TestElectorTakesOverRightAfterItsOwnRenewal(t *testing.T) {
	for i := range 20 {
		synctest.Test(t, func(t *testing.T) {
			memory := storagetest.NewMemory()
			p := newParty(t)
			var dead atomic.Bool
			p.join("a", cutOff(memory, &dead))
			synctest.Wait()
			const latency = 400 * time.Millisecond
			var seen, renewals atomic.Int64
			slow := &hooked{Storage: memory.Handle()}
			slow.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
				r, err := next(ctx)
				if a, ok := r.FindMember("a"); ok && renewals.Swap(int64(a.Renewals)) != int64(a.Renewals) {
					seen.Store(time.Now().UnixNano())
				}
				return r, err
			}
			slow.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
				defer func() { <-time.After(latency) }()
				return next(ctx)
			}
			b := p.join("b", slow)
			<-time.After(20*time.Second + time.Duration(i)*100*time.Millisecond)
			dead.Store(true)
			waitFor(t, time.Minute, "b leads", b.IsLeader)
			require.LessOrEqual(t, time.Duration(time.Now().UnixNano()-seen.Load()),
				election.DefaultLeaseDuration+2*latency+10*time.Millisecond)
		})
	}
}

package guard_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/guard"
)

// takeTurn holds the lock for as long as d, and returns when it had it.
func takeTurn(t *testing.T, turns *guard.Turns, d time.Duration) (from, to time.Time) {
	turn, err := turns.Take(t.Context())
	require.NoError(t, err)
	require.NoError(t, turn.Yield(t.Context()))
	turn.Held()
	from = time.Now()
	time.Sleep(d) // virtual time
	turn.Give()
	return from, time.Now()
}

// Whatever follows what, the lock is never held for more than 100 ms and one transaction
// without a gap in which all see it free who ask every 5 ms; and a tenth of the time at most goes to gaps.
func TestTurnsLeaveGaps(t *testing.T) {
	for _, d := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 300 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			turns := guard.NewTurns()
			start := time.Now()
			run, last := start, start
			var busy time.Duration
			for time.Since(start) < time.Minute {
				from, to := takeTurn(t, turns, d)
				if from.Sub(last) > 5*time.Millisecond {
					run = from
				}
				require.LessOrEqual(t, to.Sub(run), 100*time.Millisecond+d, "held without a gap")
				last = to
				busy += d
			}
			require.Greater(t, busy, time.Minute*9/10)
		})
	}
}

// Gaps that are there anyway are enough.
func TestTurnsOfAnIdleLockCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := guard.NewTurns()
		for range 100 {
			asked := time.Now()
			from, _ := takeTurn(t, turns, 50*time.Millisecond)
			require.Equal(t, asked, from)
			time.Sleep(10 * time.Millisecond) // virtual time
		}
	})
}

// An own write waits for one guarded transaction at most, however many ask.
func TestTurnsLetOwnWritesPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := guard.NewTurns()
		var lock sync.Mutex // stands for the one of the file, which anybody may get
		var held atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for ctx.Err() == nil {
					turn, err := turns.Take(t.Context())
					require.NoError(t, err)
					require.NoError(t, turn.Yield(t.Context()))
					lock.Lock()
					turn.Held()
					held.Add(1)
					time.Sleep(10 * time.Millisecond) // virtual time
					lock.Unlock()
					turn.Give()
				}
			})
		}
		for range 100 {
			time.Sleep(35 * time.Millisecond) // virtual time
			before := held.Load()
			require.NoError(t, turns.Own(func() error {
				for !lock.TryLock() {
					time.Sleep(3 * time.Millisecond) // virtual time
				}
				defer lock.Unlock()
				require.LessOrEqual(t, held.Load(), before+1)
				return nil
			}))
		}
		cancel()
		all.Wait()
	})
}

// Own writes without end do not starve guarded transactions.
func TestTurnsWaitForOwnWritesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := guard.NewTurns()
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 3 * time.Millisecond) // virtual time
				for ctx.Err() == nil {
					_ = turns.Own(func() error { time.Sleep(10 * time.Millisecond); return nil }) // virtual time
				}
			})
		}
		for range 20 {
			asked := time.Now()
			from, _ := takeTurn(t, turns, time.Millisecond)
			require.LessOrEqual(t, from.Sub(asked), 10*time.Millisecond)
		}
		cancel()
		all.Wait()
	})
}

// Turns are taken in the order in which they were asked for, also when somebody in between
// gives up.
func TestTurnsAreInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := guard.NewTurns()
		first, err := turns.Take(t.Context())
		require.NoError(t, err)
		hasty, cancel := context.WithCancel(t.Context())
		var got []int
		var all sync.WaitGroup
		for i, ctx := range []context.Context{t.Context(), hasty, t.Context()} {
			all.Go(func() {
				turn, err := turns.Take(ctx)
				if ctx == hasty {
					require.ErrorIs(t, err, context.Canceled)
					return
				}
				got = append(got, i)
				turn.Give()
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		require.Empty(t, got)
		first.Give()
		all.Wait()
		require.Equal(t, []int{0, 2}, got)
	})
}

// Handles on one file share its turns, as long as one of them is in use.
func TestTurnsAtALock(t *testing.T) {
	t.Parallel()
	one := guard.TurnsAt(t.Name())
	require.Same(t, one, guard.TurnsAt(t.Name()))
	require.NotSame(t, one, guard.TurnsAt(t.Name()+" of another"))
	runtime.KeepAlive(one)
}

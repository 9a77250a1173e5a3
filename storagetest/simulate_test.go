package storagetest_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

func TestSimulate(t *testing.T) {
	t.Parallel()
	storagetest.Simulate(t, storagetest.Simulation{Worlds: 10})
}

// A Storage of somebody else's, here one of this library's on a real database.
func TestSimulateStorage(t *testing.T) {
	t.Parallel()
	storagetest.Simulate(t, storagetest.Simulation{
		Worlds: 4, Length: 2 * time.Minute, Members: 3,
		Storage: func(t *testing.T) func() election.Storage {
			return func() election.Storage {
				s, err := election.NewInMemorySQLStorage(t.Name(), "")
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, s.Close()) })
				return s
			}
		},
	})
}

// A callback that counts what it does, and returns as soon as its ctx ends.
func TestSimulateCallback(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	done := map[string]int{}
	storagetest.Simulate(t, storagetest.Simulation{
		Worlds: 10, StopWithin: time.Second,
		Callback: func(ctx context.Context, memberID string) error {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					mu.Lock()
					done[memberID]++
					mu.Unlock()
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		},
	})
	require.NotEmpty(t, done)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		always := func(f storagetest.Faults) election.Storage { return storagetest.WithFaults(memory, f, 1) }
		write := func(s election.Storage) error {
			r, err := memory.Get(t.Context())
			require.NoError(t, err)
			return s.Update(t.Context(), r, false)
		}
		version := func(s election.Storage) int64 {
			r, err := s.Get(t.Context())
			require.NoError(t, err)
			return r.Version
		}
		require.NoError(t, write(always(storagetest.Faults{})))
		require.Error(t, write(always(storagetest.Faults{Refused: 1})))
		require.EqualValues(t, 1, version(memory), "a refused call does nothing")
		require.Error(t, write(always(storagetest.Faults{Lost: 1})))
		require.EqualValues(t, 2, version(memory), "a lost reply is of a call that has done its work")

		stale := always(storagetest.Faults{Stale: 1, Age: 1})
		for want := range int64(4) {
			require.EqualValues(t, max(2, 1+want), version(stale))
			require.NoError(t, write(memory))
		}

		start := time.Now()
		require.NoError(t, write(always(storagetest.Faults{Delay: time.Second})))
		require.Positive(t, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		stalled := always(storagetest.Faults{Stalled: 1, Stall: 24 * time.Hour, AppliedLate: 1})
		r, err := memory.Get(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, stalled.Update(ctx, r, false), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		time.Sleep(25 * time.Hour) // virtual time
		require.Equal(t, r.Version+1, version(memory), "a write that strays is applied in the end")
	})
}

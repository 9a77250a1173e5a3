package election_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// Every call of the storage once fails after it was done ("commit then error")
// and once before: the election goes on and no term has two callbacks.
func TestTrap10UnknownOutcomes(t *testing.T) {
	lost := errors.New("reply lost")
	for _, stored := range []bool{true, false} {
		for failing := range 12 {
			t.Run(fmt.Sprintf("stored=%v/update %d", stored, failing), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					memory := storagetest.NewMemory()
					p := newParty(t)
					calls := 0
					storage := &hooked{Storage: memory.Handle()}
					storage.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
						calls++
						if calls-1 != failing {
							return next(ctx)
						}
						if stored {
							_ = next(ctx)
						}
						return lost
					}
					a := p.join("a", storage)
					<-time.After(time.Second)
					p.join("b", memory.Handle())
					<-time.After(10 * time.Second)
					require.True(t, a.IsLeader())
					require.NoError(t, a.ResignLeader(t.Context(), 20*time.Second))
					waitFor(t, time.Minute, "b leads", func() bool { return p.log.last().id == "b" })
					<-time.After(time.Minute)
					require.Equal(t, []string{"b"}, p.leaders())
					p.log.requireSound(t)
					require.Len(t, p.log.all(), 2, "one reign each: no write of unknown outcome costs one")
				})
			})
		}
	}
}

// An acquisition whose acknowledgement outlasts the trust it gives starts no
// callback on it: another write is acknowledged first.
func TestTrap10AcquisitionOfUnknownOutcomeIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		storage := &hooked{Storage: memory}
		acquisitions := make(chan time.Time, 10)
		storage.update = func(ctx context.Context, r *election.Record, changed bool, next func(context.Context) error) error {
			err := next(ctx)
			if changed && r.LeaderID != "" {
				acquisitions <- time.Now()
				if r.Term == 1 {
					<-time.After(9 * time.Second) // stored, and the reply comes after RenewDeadline
				}
			}
			return err
		}
		a := p.join("a", storage)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		require.Len(t, acquisitions, 2)
		<-acquisitions
		first := p.log.all()[0]
		require.False(t, first.enter.Before(<-acquisitions))
		require.Equal(t, uint64(2), first.term)
		<-time.After(10 * time.Second) // until the held reply has come
		require.Len(t, p.log.all(), 1)
	})
}

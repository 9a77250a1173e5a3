package election_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// Reads of a lagging replica, alternating with fresh ones: safe, and the leader
// still leads.
func TestTrap16StaleReads(t *testing.T) {
	for _, lag := range []int{1, 3, 10} {
		t.Run(fmt.Sprint("lag ", lag), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				p := newParty(t)
				var mu sync.Mutex
				var history []*election.Record
				stale := func() election.Storage {
					reads := 0
					s := &hooked{Storage: memory.Handle()}
					s.update = func(ctx context.Context, r *election.Record, _ bool, next func(context.Context) error) error {
						err := next(ctx)
						if err == nil {
							stored := r.Clone()
							stored.Version++
							mu.Lock()
							history = append(history, stored)
							mu.Unlock()
						}
						return err
					}
					s.get = func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
						mu.Lock()
						defer mu.Unlock()
						if reads++; reads%2 == 0 && len(history) > lag {
							return history[len(history)-1-lag].Clone(), nil
						}
						return next(ctx)
					}
					return s
				}
				a := p.join("a", stale())
				synctest.Wait()
				b := p.join("b", stale())
				p.join("c", stale())
				<-time.After(10 * time.Minute)
				require.True(t, a.IsLeader())
				require.Len(t, p.log.all(), 1)
				require.Len(t, a.GetMembers(), 3)
				_ = a.leave()
				waitFor(t, time.Minute, "another leads", func() bool { return len(p.leaders()) == 1 })
				require.NotNil(t, b)
				p.log.requireSound(t)
			})
		})
	}
}

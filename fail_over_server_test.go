package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// The traps that depend on a server and a network, on real time. In a bubble a
// statement that is under way stops the clock: no deadline can pass meanwhile.

func quickLease(c *election.Config) {
	c.LeaseDuration, c.RenewInterval, c.RenewDeadline = time.Second, 100*time.Millisecond, 700*time.Millisecond
}

// Resignations, transfers, shutdowns and callback errors on one server (72, over 200 in the
// nightly steps), in eight elections of one table at once, with callbacks that need 300 ms to stop.
func TestTrap08OnAServer(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		const elections = 8
		reigns := repeats(9, 27)
		handles := []*sql.DB{db.Open(t), db.Open(t), db.Open(t)}
		var running sync.WaitGroup
		for i := range elections {
			turmoil := newTurmoil(t, handles, i)
			running.Go(func() { turmoil.run(reigns) })
		}
		running.Wait()
	})
}

// turmoil is an election whose leader is ended again and again, in every way.
type turmoil struct {
	*party
	storages []election.Storage
	members  []*partyMember
	fail     []atomic.Bool // the member's callback returns an error
	random   *rand.Rand
}

func newTurmoil(t *testing.T, handles []*sql.DB, n int) *turmoil {
	t.Helper()
	x := &turmoil{party: newParty(t), fail: make([]atomic.Bool, len(handles)), random: rand.New(rand.NewPCG(8, uint64(n)))}
	kinds := storageKinds()
	for i, handle := range handles {
		s, err := kinds[(i+n)%len(kinds)].open(handle, "", fmt.Sprint("election ", n))
		require.NoError(t, err)
		x.storages = append(x.storages, s)
		x.members = append(x.members, x.enter(i))
	}
	return x
}

func (x *turmoil) enter(i int) *partyMember {
	return x.join(fmt.Sprint("m", i), x.storages[i], func(c *election.Config) {
		c.LeaseDuration, c.RenewInterval, c.RenewDeadline = 2*time.Second, 200*time.Millisecond, 1500*time.Millisecond
		c.LeaderCallback = func(ctx context.Context) error {
			exit := x.log.enter(ctx, c.ID)
			defer exit()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil && !x.fail[i].CompareAndSwap(true, false) {
				<-tick.C
			}
			stopping := time.NewTimer(300 * time.Millisecond)
			<-stopping.C
			return errors.New("ended")
		}
	})
}

func (x *turmoil) run(reigns int) {
	for len(x.log.all()) < reigns {
		waitFor(x.t, time.Minute, "a leader", func() bool { return len(x.leaders()) == 1 })
		for i, m := range x.members {
			if m.IsLeader() {
				x.end(i)
				break
			}
		}
	}
	x.stopAll()
	x.log.requireSound(x.t)
}

func (x *turmoil) end(i int) {
	m := x.members[i]
	switch x.random.IntN(4) {
	case 0:
		_ = m.ResignLeader(x.ctx, 0)
	case 1:
		_ = m.TransferLeader(x.ctx, fmt.Sprint("m", (i+1)%len(x.members)))
	case 2:
		_ = m.leave()
		x.members[i] = x.enter(i)
	case 3:
		x.fail[i].Store(true)
		waitFor(x.t, time.Minute, "the callback ends", func() bool { return !m.IsLeader() })
	}
}

// A leader whose network is cut, or swallows every packet, stops its callback by
// RenewDeadline after its last acknowledged renewal began, and another leads.
func TestTrap07BehindABrokenNetwork(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(*dbtest.Proxy){
		"cut": (*dbtest.Proxy).Cut, "swallowed": (*dbtest.Proxy).Swallow,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
				for _, kind := range storageKinds() {
					loseTheNetwork(t, db.Fresh(t), kind, disturb)
				}
			})
		})
	}
}

func loseTheNetwork(t *testing.T, db *dbtest.Database, kind storageKind, disturb func(*dbtest.Proxy)) {
	t.Helper()
	behind, proxy := db.Behind(t)
	storage := &hooked{Storage: kind.must(t, behind.Open(t))}
	var renewal atomic.Int64 // when the last one that was acknowledged began
	storage.update = func(ctx context.Context, _ *election.Record, _ bool, next func(context.Context) error) error {
		began := time.Now().UnixNano()
		err := next(ctx)
		if err == nil {
			renewal.Store(began)
		}
		return err
	}
	p := newParty(t)
	a := p.join("a", storage, quickLease)
	waitFor(t, 10*time.Second, "a leads", a.IsLeader)
	b := p.join("b", kind.must(t, db.Open(t)), quickLease)
	first := renewal.Load()
	waitFor(t, 10*time.Second, "a renews", func() bool { return renewal.Load() != first })

	disturb(proxy)
	waitFor(t, 10*time.Second, "a's callback stops", func() bool { return !p.log.all()[0].exit.IsZero() })
	stopped := p.log.all()[0]
	require.ErrorIs(t, stopped.cause, election.ErrLeaseExpired)
	const slack = 250 * time.Millisecond // for a machine that is busy; still within the lease
	require.LessOrEqual(t, stopped.exit.Sub(time.Unix(0, renewal.Load())), 700*time.Millisecond+slack)
	waitFor(t, 10*time.Second, "b leads", b.IsLeader)
	leaving := time.Now()
	_ = a.leave()
	require.Less(t, time.Since(leaving), 5*time.Second, "it leaves, storage or not")
	p.stopAll()
	p.log.requireSound(t)
}

// Twenty processes make the table and the first record at once.
func TestTrap11TwentyCreatorsOnAServer(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		p := newParty(t)
		var creating sync.WaitGroup
		start := make(chan struct{})
		for i := range 20 {
			handle, kind := db.Open(t), storageKinds()[i%2]
			creating.Go(func() {
				<-start
				s, err := kind.open(handle, "", "")
				if err != nil {
					t.Error(err)
					return
				}
				p.join(fmt.Sprint("m", i), s, quickLease)
			})
		}
		close(start)
		creating.Wait()
		waitFor(t, 10*time.Second, "all are members", func() bool {
			leader := p.leader()
			return leader != nil && len(leader.GetMembers()) == 20
		})
		p.stopAll()
		p.log.requireSound(t)
	})
}

package election_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// BenchmarkFailOver cuts leaders off from the database, one after the other, and
// reports for what follows:
//
//	ms-p50, ms-max  from the end of the lease, as the next leader saw it (its LeaseDuration
//	                after it first read the last renewal), to the start of its callback
//	writes-p50      acquisitions that were tried
//
// It runs at half the default durations; with -benchtime=20x for 20 crashes.
func BenchmarkFailOver(b *testing.B) {
	for _, db := range dbtest.Servers(b) {
		for _, n := range []int{3, 300, 1000} {
			b.Run(fmt.Sprintf("%s/members=%d", db.Name, n), func(b *testing.B) { failOver(b, db.Fresh(b), n) })
		}
	}
}

const failOverLease = election.DefaultLeaseDuration / 2

func failOver(b *testing.B, db *dbtest.Database, n int) {
	handle := db.Open(b)
	handle.SetMaxOpenConns(64)
	handle.SetMaxIdleConns(64)
	shared := openSQL(b, handle)
	var writes atomic.Int64
	started := make(chan *mortal, n)
	members := map[string]*mortal{}
	c := gather(b, n, func(cfg *election.Config) {
		m := &mortal{SQLStorage: shared, writes: &writes}
		members[cfg.ID] = m
		cfg.Storage = m
		cfg.LeaseDuration, cfg.RenewInterval, cfg.RenewDeadline =
			failOverLease, election.DefaultRenewInterval/2, election.DefaultRenewDeadline/2
		cfg.LeaderCallback = func(ctx context.Context) error {
			m.began.Store(time.Now().UnixNano())
			started <- m
			return stay(ctx)
		}
	})
	leader := <-started
	tick := time.NewTicker(failOverLease)
	defer tick.Stop()
	var took, tried []float64
	for b.Loop() {
		<-tick.C // all have read of all
		<-tick.C
		writes.Store(0)
		leader.dead.Store(true)
		next := <-started
		over := time.Unix(0, next.renewed.Load()).Add(failOverLease)
		took = append(took, float64(time.Unix(0, next.began.Load()).Sub(over).Microseconds())/1000)
		<-tick.C
		tried = append(tried, float64(writes.Load()))
		leader.dead.Store(false)
		leader = next
	}
	c.leave()
	slices.Sort(took)
	slices.Sort(tried)
	require.NotEmpty(b, took)
	b.ReportMetric(took[len(took)/2], "ms-p50")
	b.ReportMetric(took[len(took)-1], "ms-max")
	b.ReportMetric(tried[len(tried)/2], "writes-p50")
	b.ReportMetric(0, "ns/op") // the lease
}

// mortal is one member's way to the storage.
type mortal struct {
	*election.SQLStorage
	dead    atomic.Bool
	writes  *atomic.Int64 // acquisitions and releases of all members
	leader  string        // as this member read it last
	version int64
	renewed atomic.Int64 // when it first read that version, of another member's reign
	began   atomic.Int64 // when its callback last started
}

var errDead = errors.New("cut off")

func (m *mortal) Watch() {} // hides the one with parameters: a crash tells nobody

func (m *mortal) Get(ctx context.Context) (*election.Record, error) {
	if m.dead.Load() {
		return nil, errDead
	}
	r, err := m.SQLStorage.Get(ctx)
	if err == nil && (r.Version != m.version || r.LeaderID != m.leader) {
		m.version, m.leader = r.Version, r.LeaderID
		m.renewed.Store(time.Now().UnixNano())
	}
	return r, err
}

func (m *mortal) write(changed bool, write func() error) error {
	if m.dead.Load() {
		return errDead
	}
	if changed {
		m.writes.Add(1)
	}
	return write()
}

func (m *mortal) Update(ctx context.Context, r *election.Record, changed bool) error {
	return m.write(changed, func() error { return m.SQLStorage.Update(ctx, r, changed) })
}

func (m *mortal) UpdateMember(ctx context.Context, before, after *election.Member) error {
	return m.write(false, func() error { return m.SQLStorage.UpdateMember(ctx, before, after) })
}

func (m *mortal) UpdateWithMember(ctx context.Context, r *election.Record, changed bool, before, after *election.Member) error {
	return m.write(changed, func() error { return m.SQLStorage.UpdateWithMember(ctx, r, changed, before, after) })
}

package election_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
//	ms-p50, ms-p99, ms-max  from the end of the lease, as the next leader saw it (its LeaseDuration
//	                        after it first read the last renewal), to the start of its callback
//	writes-p50              acquisitions that were tried
//	crashes                 that this is of
//
// It runs at half the default durations, small elections many at a time; with
// -benchtime=5x each of them crashes five times.
func BenchmarkFailOver(b *testing.B) {
	for _, db := range dbtest.Servers(b) {
		for _, size := range []struct{ members, elections int }{{3, 25}, {300, 1}, {1000, 1}} {
			b.Run(fmt.Sprintf("%s/members=%d", db.Name, size.members), func(b *testing.B) {
				failOvers(b, db, size.members, size.elections)
			})
		}
	}
}

const failOverLease = election.DefaultLeaseDuration / 2

func failOvers(b *testing.B, db *dbtest.Database, n, elections int) {
	falling := make([]*falls, elections)
	for i := range falling {
		falling[i] = newFalls(b, db.Fresh(b), n)
	}
	for b.Loop() {
		var crashes sync.WaitGroup
		for _, f := range falling {
			crashes.Go(f.crash)
		}
		crashes.Wait()
	}
	var took, tried []float64
	for _, f := range falling {
		f.crowd.leave()
		took, tried = append(took, f.took...), append(tried, f.tried...)
	}
	slices.Sort(took)
	slices.Sort(tried)
	require.NotEmpty(b, took)
	b.ReportMetric(took[len(took)/2], "ms-p50")
	b.ReportMetric(took[len(took)*99/100], "ms-p99")
	b.ReportMetric(took[len(took)-1], "ms-max")
	b.ReportMetric(tried[len(tried)/2], "writes-p50")
	b.ReportMetric(float64(len(took)), "crashes")
	b.ReportMetric(0, "ns/op") // the lease
}

// falls is one election whose leaders fall.
type falls struct {
	crowd       *crowd
	started     chan *mortal
	leader      *mortal
	writes      atomic.Int64
	took, tried []float64 // ms, and acquisitions
}

func newFalls(b *testing.B, db *dbtest.Database, n int) *falls {
	handle := db.Open(b)
	handle.SetMaxOpenConns(min(64, 2*n))
	handle.SetMaxIdleConns(min(64, 2*n))
	shared := openSQL(b, handle)
	f := &falls{started: make(chan *mortal, n)}
	f.crowd = gather(b, n, func(cfg *election.Config) {
		m := &mortal{SQLStorage: shared, writes: &f.writes}
		cfg.Storage = m
		cfg.LeaseDuration, cfg.RenewInterval, cfg.RenewDeadline =
			failOverLease, election.DefaultRenewInterval/2, election.DefaultRenewDeadline/2
		cfg.LeaderCallback = func(ctx context.Context) error {
			m.began.Store(time.Now().UnixNano())
			f.started <- m
			return stay(ctx)
		}
	})
	f.leader = <-f.started
	return f
}

// crash cuts the leader off until another one leads.
func (f *falls) crash() {
	tick := time.NewTicker(failOverLease)
	defer tick.Stop()
	<-tick.C // all have read of all
	<-tick.C
	f.writes.Store(0)
	f.leader.dead.Store(true)
	next := <-f.started
	over := time.Unix(0, next.renewed.Load()).Add(failOverLease)
	f.took = append(f.took, float64(time.Unix(0, next.began.Load()).Sub(over).Microseconds())/1000)
	<-tick.C
	f.tried = append(f.tried, float64(f.writes.Load()))
	f.leader.dead.Store(false)
	f.leader = next
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

package election_test

import (
	"testing"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

func BenchmarkZZ(b *testing.B) {
	for _, db := range append([]*dbtest.Database{dbtest.SQLite(b)}, dbtest.Servers(b)...) {
		b.Run(db.Name, func(b *testing.B) {
			fresh := db.Fresh(b)
			s := openSQL(b, fresh.Open(b))
			ctx := b.Context()
			r, _ := s.Get(ctx)
			m := &election.Member{ID: "a", Nonce: "n", LeaseDuration: time.Second}
			r.Members = []*election.Member{m}
			r.LeaderID, r.Term = "a", 1
			if err := s.UpdateWithMember(ctx, r, true, nil, m); err != nil {
				b.Fatal(err)
			}
			var get, upd, ren time.Duration
			n := 0
			for b.Loop() {
				n++
				t0 := time.Now()
				r, err := s.Get(ctx)
				if err != nil {
					b.Fatal(err)
				}
				t1 := time.Now()
				next := *m
				next.Renewals++
				r.Term++
				if err := s.UpdateWithMember(ctx, r, true, m, &next); err != nil {
					b.Fatal(err)
				}
				m = &next
				t2 := time.Now()
				next2 := *m
				next2.Renewals++
				if err := s.UpdateMember(ctx, m, &next2); err != nil {
					b.Fatal(err)
				}
				m = &next2
				get += t1.Sub(t0)
				upd += t2.Sub(t1)
				ren += time.Since(t2)
			}
			b.ReportMetric(float64(get.Microseconds())/float64(n), "us-get")
			b.ReportMetric(float64(upd.Microseconds())/float64(n), "us-change")
			b.ReportMetric(float64(ren.Microseconds())/float64(n), "us-renew")
		})
	}
}

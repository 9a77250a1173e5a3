package election_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// BenchmarkMembers shows what an election costs as it grows: at default settings
// for MEMBERS_FOR (20s), on each server, with and without 2 ms more of latency each
// way. All members start at the same moment, in one process: with one storage, through which
// they read and renew together, or each with its own, as in processes of their own.
// What it reports:
//
//	s-to-join     until the leader knows them all
//	statements    each member's, in a RenewInterval
//	bytes         each member's, both ways, in a RenewInterval
//	dropped       most members that the leader missed at any moment since
//	changes       of leader since
//	cores         that the process, the proxy included, keeps busy since
//
// Run it with -benchtime=1x.
func BenchmarkMembers(b *testing.B) {
	length := 20 * time.Second
	if text := os.Getenv("MEMBERS_FOR"); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		require.NoError(b, err)
	}
	for _, db := range dbtest.Servers(b) {
		for _, latency := range []time.Duration{0, 2 * time.Millisecond} {
			for _, storages := range []string{"one", "own"} {
				for _, n := range []int{10, 100, 1000} {
					b.Run(fmt.Sprintf("%s/latency=%v/storage=%s/members=%d", db.Name, latency, storages, n), func(b *testing.B) {
						for b.Loop() {
							members(b, db.Fresh(b), n, storages == "own", latency, length)
						}
					})
				}
			}
		}
	}
}

func members(b *testing.B, db *dbtest.Database, n int, own bool, latency, length time.Duration) {
	behind, proxy := db.Behind(b)
	handle, statements := behind.OpenCounted(b)
	handle.SetMaxOpenConns(64)
	handle.SetMaxIdleConns(64)
	storages := []*election.SQLStorage{openSQL(b, handle)}
	for own && len(storages) < n {
		storages = append(storages, openSQL(b, handle))
	}
	if latency > 0 {
		proxy.Delay(latency)
	}
	start, next := time.Now(), 0
	c := gather(b, n, func(cfg *election.Config) {
		cfg.Storage = storages[next%len(storages)]
		next++
	})
	joined := time.Since(start)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for settle := time.Now(); time.Since(settle) < 3*election.DefaultLeaseDuration; { // until all have read of all
		<-tick.C
	}
	led, changes, dropped := c.leader(), 0, 0
	statements.Take()
	bytes, busy, began := proxy.Passed(), cpuSeconds(), time.Now()
	for time.Since(began) < length {
		<-tick.C
		dropped = max(dropped, n-c.known())
		if now := c.leader(); now != nil && now != led {
			led, changes = now, changes+1
		}
	}
	seconds := time.Since(began).Seconds()
	intervals := seconds / election.DefaultRenewInterval.Seconds()
	b.ReportMetric((cpuSeconds()-busy)/seconds, "cores")
	b.ReportMetric(joined.Seconds(), "s-to-join")
	b.ReportMetric(float64(len(statements.Take()))/float64(n)/intervals, "statements")
	b.ReportMetric(float64(proxy.Passed()-bytes)/float64(n)/intervals, "bytes")
	b.ReportMetric(float64(dropped), "dropped")
	b.ReportMetric(float64(changes), "changes")
}

// cpuSeconds is for how long this process has kept cores busy.
func cpuSeconds() float64 {
	runtime.GC() // what is read is as of the last one
	cpu := []metrics.Sample{{Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}}
	metrics.Read(cpu)
	return cpu[0].Value.Float64() - cpu[1].Value.Float64()
}

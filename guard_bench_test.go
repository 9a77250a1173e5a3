package election_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// BenchmarkGuardedInARow runs guarded transactions one after the other on an SQLite file, each of
// which inserts a row, at once or in 10 ms, in one goroutine or in four.
func BenchmarkGuardedInARow(b *testing.B) {
	for name, work := range map[string]time.Duration{"short": 0, "10 ms": 10 * time.Millisecond} {
		for _, parallel := range []int{1, 4} {
			b.Run(name+map[int]string{1: "", 4: ", four at once"}[parallel], func(b *testing.B) {
				db := dbtest.SQLite(b).Open(b)
				storage := openSQL(b, db)
				dbtest.Exec(b, db, `CREATE TABLE work (n integer)`)
				require.NoError(b, storage.Update(b.Context(), &election.Record{LeaderID: "a", Term: 1}, true))
				b.SetParallelism(parallel)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						err := storage.TxnWithLeaderLock(b.Context(), "a", func(tx *sql.Tx) error {
							_, err := tx.Exec(`INSERT INTO work VALUES (1)`)
							if work > 0 {
								timer := time.NewTimer(work)
								<-timer.C
							}
							return err
						})
						if err != nil {
							b.Error(err)
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "txn/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

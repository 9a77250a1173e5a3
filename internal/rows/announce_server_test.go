package rows

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
)

// Both halves of a hand-over between other processes are heard of: the release, by its
// lock, and the acquisition that follows before anybody has looked at the row.
func TestWatchHearsBothHalvesOfAHandOver(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "mysql" {
			t.Skip("it notifies of each change")
		}
		e := mustOpen(t, db.Open(t)).Election("")
		require.NoError(t, e.Update(t.Context(), Change{LeaderID: "p0", Text: "{}", Term: 1, LeaderChanged: true}))
		others := db.Open(t)
		conn, err := others.Conn(t.Context())
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		exec := func(query string, args ...any) {
			_, err := conn.ExecContext(t.Context(), query, args...)
			require.NoError(t, err)
		}
		lock := func(i int) dialect.HoldingLock { // as the processes of its leaders would
			return e.dialect.HoldingLock(e.bell().Subject, dialect.Holding{Holder: fmt.Sprint("p", i), Number: int64(i + 1)})
		}
		exec(lock(0).Take)
		rings := make(chan struct{}, 100)
		go func() { _ = e.Watch(t.Context(), func() { rings <- struct{}{} }) }()
		hear := func(what string) {
			select {
			case <-rings:
			case <-time.After(30 * time.Second):
				require.FailNow(t, "not heard: "+what)
			}
		}
		hear("that it watches")
		for i := range 4 {
			for waiting := 0; waiting == 0; {
				require.NoError(t, others.QueryRow(`SELECT COUNT(*) FROM information_schema.processlist
					WHERE db = DATABASE() AND state = 'User lock'`).Scan(&waiting))
			}
			for len(rings) > 0 {
				<-rings
			}
			exec("UPDATE election SET leader_id = '' WHERE id = 2")
			exec(lock(i).Free)
			hear("the release")
			exec("UPDATE election SET leader_id = ?, version = ? WHERE id = 2", fmt.Sprint("p", i+1), i+2)
			exec(lock(i + 1).Take)
			hear("the acquisition")
		}
	})
}

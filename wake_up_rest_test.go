package election_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// Listeners on SQLite files ask the database seldom while nothing happens but renewals, and all
// members of one handle together.
func TestListenersAskLittleAtRest(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "sqlite" || db.Path == "" {
			t.Skip("it is about SQLite files")
		}
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t)
			p.watches = true
			one, statements := db.OpenCounted(t)
			a := p.join("a", openSQL(t, one))
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			b := p.join("b", openSQL(t, one))
			c := p.join("c", openSQL(t, db.Open(t))) // as if in another process
			waitFor(t, time.Minute, "all watch", func() bool { return a.Status().Watching && b.Status().Watching && c.Status().Watching })
			statements.Take()
			const seconds = 60
			<-time.After(seconds * time.Second)
			asked := 0
			for _, s := range statements.Take() {
				if strings.Contains(s, "data_version") {
					asked++
				}
			}
			t.Log(float64(asked)/seconds, "a second")
			require.LessOrEqual(t, asked, 30*seconds)
			require.GreaterOrEqual(t, asked, 3*seconds, "a look that the files do not prompt")
		})
	})
}

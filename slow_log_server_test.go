package election_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// Members that wait for a change of leader are no slow queries in the server's log.
func TestNothingInTheSlowLog(t *testing.T) {
	t.Parallel()
	server := dbtest.RequireServer(t, "mysql")
	admin := openOwn(t, server)
	for _, query := range []string{
		"CREATE DATABASE slow", "SET GLOBAL log_output = 'FILE'", "SET GLOBAL slow_query_log_file = '" + server.Path("slow") + "'",
		"SET GLOBAL slow_query_log = 1",
	} {
		dbtest.Exec(t, admin, query)
	}
	status := func(name string) (n int) {
		require.NoError(t, admin.QueryRow("SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(new(string), &n))
		return n
	}
	dbtest.Exec(t, admin, "SET GLOBAL long_query_time = 1") // of sessions to come
	p := newParty(t)
	p.ctx, p.watches = t.Context(), true
	own := *server
	own.DSN += "slow"
	for _, id := range []string{"a", "b"} {
		p.join(id, openSQL(t, openOwn(t, &own)))
	}
	waitFor(t, time.Minute, "somebody leads", func() bool { return p.leader() != nil })
	db := openOwn(t, &own)
	waitFor(t, time.Minute, "both wait for the lock", func() bool { return lockWaiters(t, db) == 2 })
	_, begin := logged(t, server, "slow", 0)
	selects := status("Com_select")
	waitFor(t, time.Minute, "both have waited again and again", func() bool { return status("Com_select") > selects+30 })
	text, _ := logged(t, server, "slow", begin)
	const late = 2 // on a machine that does ten things at once
	assert.LessOrEqual(t, strings.Count(text, "GET_LOCK("), late)
}

package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/sqldb"
)

var races = flag.Int("races", 100, "how many guarded transactions race a change of leader")

// theCluster is the one that the tests of this process share, one after the other.
var theCluster = sync.OnceValues(dbtest.StartGalera)

// world is one election on all nodes of a cluster, and a ledger that guarded
// transactions write.
type world struct {
	t        *testing.T
	cluster  *dbtest.Galera
	schema   string
	handles  []*sql.DB
	storages []*election.SQLStorage // one for each node
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, cluster: dbtest.RequireGalera(t, theCluster)}
	for _, node := range w.cluster.Nodes { // an earlier test may have left one behind
		require.NoError(t, node.AwaitSynced(t.Context()))
	}
	w.schema = w.cluster.Schema(t)
	for _, node := range w.cluster.Nodes {
		w.handles = append(w.handles, node.Open(t, w.schema))
	}
	w.exec(0, "CREATE TABLE ledger (entry BIGINT PRIMARY KEY, leader VARCHAR(20), term BIGINT)")
	w.exec(0, "CREATE TABLE mark (n BIGINT AUTO_INCREMENT PRIMARY KEY)")
	for _, handle := range w.handles {
		s, err := election.NewSQLStorage(handle, "")
		require.NoError(t, err)
		w.storages = append(w.storages, s)
	}
	return w
}

// exec runs one statement on a node, again after a conflict.
func (w *world) exec(node int, statement string) {
	w.t.Helper()
	require.NoError(w.t, sqldb.Retry(w.t.Context(), func() error {
		_, err := w.handles[node].Exec(statement)
		return err
	}), statement)
}

// change makes id the leader through a node, and returns the term. It is what an
// elector does, without the lease: the promise of a guarded transaction rests on none.
func (w *world) change(ctx context.Context, node int, id string) (term uint64, err error) {
	r, err := w.storages[node].Get(ctx)
	if err != nil {
		return 0, err
	}
	r.LeaderID = id
	r.Term++
	return r.Term, w.storages[node].Update(ctx, r, true)
}

func (w *world) mustChange(node int, id string) (term uint64) {
	w.t.Helper()
	term, err := w.change(w.t.Context(), node, id)
	require.NoError(w.t, err)
	return term
}

// reign is what a guarded transaction is held to.
type reign struct {
	leader string
	term   uint64
}

func (r reign) in(ctx context.Context) context.Context {
	return election.ContextWithLeadership(ctx, election.Leadership{Leader: &election.Member{ID: r.leader}, Term: r.term})
}

// guarded writes one entry into the ledger through a node, and calls then before it
// commits.
func (w *world) guarded(ctx context.Context, node int, r reign, entry int64, then func()) error {
	return w.storages[node].TxnWithLeaderLock(r.in(ctx), r.leader, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO ledger VALUES (?, ?, ?)", entry, r.leader, r.term); err != nil {
			return err
		}
		then()
		return nil
	})
}

// entries are those that the ledger holds, as a node that has caught up sees it.
func (w *world) entries(node int) (n int) {
	w.t.Helper()
	require.NoError(w.t, w.handles[node].QueryRow("SET STATEMENT wsrep_sync_wait=1 FOR SELECT COUNT(*) FROM ledger").Scan(&n))
	return n
}

// eventually waits until done holds.
func eventually(t *testing.T, patience time.Duration, what string, done func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			require.FailNow(t, fmt.Sprintf("after %v, still no sign of %s", patience, what))
		}
	}
}

// stall takes a node out of the flow control, so that the others do not wait for it,
// and lets it apply nothing until goOn is called.
func (w *world) stall(node int) (goOn func()) {
	w.t.Helper()
	conn, err := w.handles[node].Conn(w.t.Context())
	require.NoError(w.t, err)
	run := func(statements ...string) {
		for _, statement := range statements {
			_, err := conn.ExecContext(w.t.Context(), statement)
			require.NoError(w.t, err, statement)
		}
	}
	run("SET GLOBAL wsrep_desync = ON", "FLUSH TABLES WITH READ LOCK")
	return func() {
		run("UNLOCK TABLES", "SET GLOBAL wsrep_desync = OFF")
		require.NoError(w.t, conn.Close())
	}
}

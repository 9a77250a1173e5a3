package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

const nameGalera = "MariaDB Galera Cluster"

// Galera describes a node of a MariaDB Galera cluster. Its locks are local to the
// node, and a transaction is checked against those of other nodes only when it
// commits, and only by the rows that it has written: of two transactions that write
// the same row, without the later one having seen the earlier one's, the later in
// the cluster's one order of commits is rolled back, on every node alike.
//
// So the guard is a row that is written. The invariant, from which all follows:
//
//   - Every guard stripe holds what the leader row holds, at each point of the order
//     of commits. Whoever writes one of them writes them all, in one transaction: a
//     change of leader, and whoever adds stripes that are missing.
//   - A guarded transaction has written a stripe that held the reign it is held to.
//
// A guarded transaction and a change of leader have the same stripe written, then: if
// the change comes first in the order, either the guarded transaction has seen it,
// and found another reign in its stripe, or it does not commit.
func Galera() *Dialect {
	d := MariaDB()
	d.Name = nameGalera
	d.Stripes = 16
	// Else a node reads, and compares, what it has applied so far. (Prepared, a read is
	// refused for another reason than that the node has no part in its cluster, if that is so.)
	d.freshRead = "SET STATEMENT wsrep_sync_wait=1 FOR "
	d.BoundedWrite = strings.Replace(d.BoundedWrite, " FOR ", ", wsrep_sync_wait=3 FOR ", 1)
	// A server of this kind can lose the news of a conflict in a prepared SELECT: the
	// transaction is rolled back, and its later statements are another one, with no
	// error anywhere.
	d.Savepoint = "election_whole"
	d.prepare = prepareGalera
	d.transact = nil // a conflict is looked for before the COMMIT
	d.look = lookMySQL(`
		WHEN @@wsrep_on = 0 THEN 'wsrep_on must be ON: else nothing that is written reaches the other nodes'
		WHEN @@wsrep_dirty_reads = 1 THEN 'wsrep_dirty_reads must be OFF: else a node that is cut off answers with the past'`)
	d.fence = func(_ context.Context, conn *sql.Conn, _ string) (Fence, error) {
		return &galeraFence{conn: conn}, nil
	}
	d.hold = holdGalera
	// GET_LOCK is local to a node: whoever waits on another one finds it free.
	d.holdingLock = nil
	d.listen = func(_ context.Context, _ *sql.DB, conn *sql.Conn) (Listener, error) {
		return &mysqlListener{conn: conn, polls: true}, nil
	}
	return d
}

// prepareGalera is prepareMariaDB, and more. It waits until the node has caught up, which
// a node does not do within a transaction. (The first two statements fail on one that is
// cut off; the wait says something else then.) It turns autocommit off, so that
// what follows a transaction that was rolled back under way is not committed.
func prepareGalera(ctx context.Context, conn *sql.Conn, wait time.Duration) (func() error, error) {
	bounds, err := prepareMariaDB(ctx, conn, wait)
	if err == nil {
		_, err = conn.ExecContext(ctx, "BEGIN NOT ATOMIC DECLARE awaited INT; START TRANSACTION; ROLLBACK; "+
			"SET STATEMENT wsrep_sync_wait=1 FOR SELECT 1 INTO awaited; "+
			"SET @election_autocommit = @@autocommit, SESSION autocommit = 0; END")
	}
	return func() error {
		return errors.Join(restore(conn, err != nil, "ROLLBACK", putBack(nil, "", "autocommit")), bounds())
	}, err
}

// checkNode returns an error that says why this node can neither be read nor written,
// if it cannot.
func checkNode(ctx context.Context, q Queryer) error {
	status, err := settings(ctx, q, "STATUS", "wsrep_cluster_status", "wsrep_ready")
	if err != nil {
		return err
	}
	for _, must := range []struct{ status, be string }{{"wsrep_cluster_status", "Primary"}, {"wsrep_ready", "ON"}} {
		if value := status[must.status]; value != must.be {
			return fmt.Errorf("%w: %s is %q, must be %q", errNotPrimary, must.status, value, must.be)
		}
	}
	return nil
}

// mysqlNodeNotReady is what a node answers to nearly everything while that is so.
const mysqlNodeNotReady = 1047

var errNotPrimary = errors.New("this node is not in the primary component of its Galera cluster, or has not caught up with it")

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

// Galera describes a node of a MariaDB Galera cluster. Locks are local to the node. A transaction
// meets those of other nodes only when it commits, and only in the rows that it has written. The
// cluster has one order of commits. If two transactions write the same row, and the later one in
// this order has not seen the earlier one, the later one is rolled back, on every node alike.
//
// So the guard is a row that is written. All else follows from this invariant:
//
//   - At each point of the order of commits, every guard stripe holds the reign that the leader row
//     holds. A transaction that writes the reign of one of these rows writes all of them: a change
//     of leader does so, and the mending of missing stripes.
//   - A guarded transaction has written a stripe that held the reign it is held to.
//
// So a guarded transaction and a change of leader write the same stripe. If the change comes first
// in the order, one of two things happens. Either the guarded transaction has seen the change: then
// it has found another reign in its stripe. Or it has not seen it: then it is not committed.
func Galera() *Dialect {
	d := MariaDB()
	d.Name = nameGalera
	d.Stripes = 16
	// Without wsrep_sync_wait a node reads and compares what it has applied so far. (Reads are not
	// prepared. On a node that is cut off from its cluster, a prepared read is refused with an
	// error that does not name this reason.)
	d.readPrefix = "SET STATEMENT wsrep_sync_wait=1 FOR "
	d.BoundedWrite = strings.Replace(d.BoundedWrite, " FOR ", ", wsrep_sync_wait=3 FOR ", 1)
	// Such a server can lose the news of a conflict in a prepared SELECT. It rolls the transaction
	// back, the later statements form another transaction, and no statement fails.
	d.Savepoint = "election_whole"
	d.prepare = prepareGalera
	d.transact = nil // the savepoint must tell of a conflict before the COMMIT is sent
	d.look = lookMySQL(`
		WHEN @@wsrep_on = 0 THEN 'wsrep_on must be ON: else nothing that is written reaches the other nodes'
		WHEN @@wsrep_dirty_reads = 1 THEN 'wsrep_dirty_reads must be OFF: else a node that is cut off answers with the past'`)
	d.fence = func(_ context.Context, conn *sql.Conn, _ string) (Fence, error) {
		return &galeraFence{conn: conn}, nil
	}
	d.hold = holdGalera
	// GET_LOCK is local to a node: a listener on another node finds the lock free.
	d.holdingLock = nil
	d.listen = func(_ context.Context, _ *sql.DB, conn *sql.Conn) (Listener, error) {
		return &mysqlListener{conn: conn, polls: true}, nil
	}
	return d
}

// prepareGalera is prepareMariaDB, and does two more things:
//
//   - It waits until the node has caught up. Within a transaction a node does not wait. START
//     TRANSACTION and ROLLBACK come first: on a node that is cut off they fail with the right
//     error, and the wait fails with another one.
//   - It turns autocommit off. If the transaction is rolled back under way, what follows it is not
//     committed.
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

// checkNode returns an error if this node can be neither read nor written. The error says why.
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

// mysqlNodeNotReady is the error with which such a node answers nearly every statement.
const mysqlNodeNotReady = 1047

var errNotPrimary = errors.New("this node is not in the primary component of its Galera cluster, or has not caught up with it")

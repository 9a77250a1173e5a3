package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/storagetest"
)

// The conformance kit, with its two handles on two nodes.
func TestStorageContractAcrossNodes(t *testing.T) {
	w := newWorld(t)
	var opened atomic.Int64
	storagetest.Run(t, func(t *testing.T) (a, b election.Storage) {
		name := fmt.Sprint("election ", opened.Add(1))
		if opened.Load()%2 == 0 {
			return w.storages[0].Election(name), w.storages[1].Election(name)
		}
		orm, err := election.NewORMStorageFromSQLDB(w.handles[2], "")
		require.NoError(t, err)
		return w.storages[1].Election(name), orm.Election(name)
	})
}

// ends are the ways in which a guarded function may end its transaction.
var ends = []struct {
	name string
	end  func(w *world, tx *sql.Tx) error
}{
	{"COMMIT", statement("COMMIT")},
	{"ROLLBACK", statement("ROLLBACK")},
	{"BEGIN", statement("BEGIN")},
	{"DDL", statement("CREATE TABLE late (n INTEGER)")},
	{"LOCK TABLES", statement("LOCK TABLES ledger WRITE")},
	{"conflict", func(w *world, tx *sql.Tx) error {
		w.mustChange(1, "b")
		var err error
		eventually(w.t, 10*time.Second, "the conflict", func() bool { // its applier ends the transaction
			_, err = tx.Exec("DO 1")
			return err != nil
		})
		return nil
	}},
}

func statement(text string) func(*world, *sql.Tx) error {
	return func(_ *world, tx *sql.Tx) error {
		_, err := tx.Exec(text)
		return err
	}
}

// What a guarded function writes after its transaction has ended never lands, and what
// it wrote before was guarded, or is gone.
func TestTrap24TransactionEndsInsideOnGalera(t *testing.T) {
	w := newWorld(t)
	handle := w.cluster.Nodes[0].Open(t, w.schema)
	handle.SetMaxOpenConns(1)
	s, err := election.NewSQLStorage(handle, "")
	require.NoError(t, err)
	state := sessionState(t, handle)
	for i, end := range ends {
		t.Run(end.name, func(t *testing.T) {
			w.t = t
			early, late := 10*i, 10*i+1
			r := reign{"a", w.mustChange(0, "a")}
			err := s.TxnWithLeaderLock(r.in(t.Context()), "a", func(tx *sql.Tx) error {
				if _, err := tx.Exec("INSERT INTO ledger VALUES (?, ?, ?)", early, r.leader, r.term); err != nil {
					return err
				}
				_ = end.end(w, tx)
				w.mustChange(2, "c")
				for range 3 {
					_, _ = tx.Exec("INSERT INTO ledger VALUES (?, ?, ?)", late, r.leader, r.term)
				}
				return nil
			})
			require.ErrorIs(t, err, election.ErrTxnEnded)
			assert.Zero(t, dbtest.Count(t, handle, fmt.Sprint("ledger WHERE entry = ", late)))
			assert.Zero(t, dbtest.Count(t, handle, "information_schema.tables WHERE table_name = 'late'"))
			assert.Equal(t, state, sessionState(t, handle))
		})
	}
	w.t = t
	assert.Empty(t, w.testify(2).violations)
}

func sessionState(t *testing.T, db *sql.DB) (state string) {
	t.Helper()
	require.NoError(t, db.QueryRow(`SELECT CONCAT_WS(' ', @@autocommit, @@tx_isolation, @@tx_read_only, @@innodb_lock_wait_timeout, @@lock_wait_timeout,
		@@idle_transaction_timeout, @@idle_write_transaction_timeout, @@idle_readonly_transaction_timeout, @@max_statement_time,
		@@net_write_timeout, @@sql_mode, @@wsrep_sync_wait, @@use_stat_tables)`).Scan(&state))
	return state
}

// However a guarded transaction or a change ends, the next user of the connection
// finds it as it was: what is written there is committed.
func TestTrap28ConnectionIsRestoredOnGalera(t *testing.T) {
	w := newWorld(t)
	handle := w.cluster.Nodes[0].Open(t, w.schema)
	handle.SetMaxOpenConns(1)
	s, err := election.NewSQLStorage(handle, "")
	require.NoError(t, err)
	r := reign{"a", w.mustChange(0, "a")}
	state := sessionState(t, handle)
	canceled, cancel := context.WithCancel(r.in(t.Context()))
	for i, run := range []func() error{
		func() error { return s.TxnWithLeaderLock(r.in(t.Context()), "a", func(*sql.Tx) error { return nil }) },
		func() error {
			return s.TxnWithLeaderLock(t.Context(), "a", func(*sql.Tx) error { return errors.New("no") })
		},
		func() error { return s.TxnWithLeaderLock(t.Context(), "b", func(*sql.Tx) error { return nil }) },
		func() error { return s.TxnWithLeaderLock(canceled, "a", func(*sql.Tx) error { cancel(); return nil }) },
		func() (err error) {
			defer func() { err = fmt.Errorf("%v", recover()) }()
			return s.TxnWithLeaderLock(t.Context(), "a", func(*sql.Tx) error { panic("no") })
		},
		func() error {
			return s.TxnWithLeaderLock(t.Context(), "a", func(tx *sql.Tx) error {
				_, err := tx.Exec("KILL CONNECTION_ID()")
				return err
			})
		},
		func() error { _, err := w.change(t.Context(), 0, "a"); return err },
		func() error { return s.Update(t.Context(), &election.Record{LeaderID: "x", Version: 1 << 40}, true) },
	} {
		_ = run()
		require.Equal(t, state, sessionState(t, handle), "end %d", i)
		dbtest.Exec(t, handle, fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'nobody', 0)", i))
		require.Equal(t, i+1, w.entries(1), "end %d", i)
	}
}

// An election that is older than its cluster has no stripes, and its leader goes on
// leading.
func TestStripesAreMended(t *testing.T) {
	w := newWorld(t)
	r := reign{"a", w.mustChange(0, "a")}
	for i, damage := range []string{
		"DELETE FROM election WHERE slot BETWEEN 2 AND 17",
		"DELETE FROM election WHERE slot IN (3, 5, -1)",
		"UPDATE election SET version = version - 1 WHERE slot BETWEEN 2 AND 17",
	} {
		w.entries(1)
		w.exec(1, damage)
		for n := range 20 { // whichever stripe
			require.NoError(t, w.guarded(t.Context(), 2, r, int64(100*i+n), func() {}), damage)
		}
		require.ErrorIs(t, w.guarded(t.Context(), 1, reign{"b", r.term}, 1, func() {}), election.ErrNotLeader)
		require.ErrorIs(t, w.guarded(t.Context(), 1, reign{"a", r.term + 1}, 1, func() {}), election.ErrNotLeader)
	}
}

// The gate is waited for, and what a change of leader that died has left closed does
// not stay so.
func TestGateIsAHint(t *testing.T) {
	w := newWorld(t)
	r := reign{"a", w.mustChange(0, "a")}
	w.entries(1) // has heard of the gate
	w.exec(1, "UPDATE election SET record = 'somebody' WHERE slot = -1")
	opened := make(chan error)
	go func() {
		until := time.NewTimer(50 * time.Millisecond)
		<-until.C
		_, err := w.handles[1].Exec("UPDATE election SET record = '' WHERE slot = -1")
		opened <- err
	}()
	start := time.Now()
	require.NoError(t, w.guarded(t.Context(), 0, r, 1, func() {}))
	assert.Less(t, 50*time.Millisecond, time.Since(start), "the gate was passed over")
	require.NoError(t, <-opened)

	w.exec(1, "UPDATE election SET record = 'nobody' WHERE slot = -1")
	start = time.Now()
	require.NoError(t, w.guarded(t.Context(), 0, r, 2, func() {}))
	assert.Less(t, 400*time.Millisecond, time.Since(start), "the gate was passed over")
	assert.Equal(t, 1, dbtest.Count(t, w.handles[0], "election WHERE slot = -1 AND record = ''"), "the gate was left closed")
}

// A read sees what was written through another node before, and so does a guard.
func TestReadsAreFreshAcrossNodes(t *testing.T) {
	w := newWorld(t)
	ballast := w.cluster.Schema(t)
	w.exec(0, "CREATE TABLE "+ballast+".a (n BIGINT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(100))")
	for i := range 10 {
		w.exec(0, "INSERT INTO "+ballast+".a (text) SELECT REPEAT('x', 100) FROM seq_1_to_5000")
		term := w.mustChange(0, fmt.Sprint("leader ", i))
		r, err := w.storages[1].Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, term, r.Term)

		w.exec(0, "INSERT INTO "+ballast+".a (text) SELECT REPEAT('x', 100) FROM seq_1_to_5000")
		last := reign{"last", w.mustChange(0, "last")}
		require.NoError(t, w.guarded(t.Context(), 1, last, int64(i), func() {}))
	}
}

func TestUnfitSessionsOnGalera(t *testing.T) {
	w := newWorld(t)
	for _, setting := range []string{"wsrep_on=0", "wsrep_dirty_reads=1", "autocommit=0"} {
		db, err := sql.Open("mysql", w.cluster.Nodes[0].DSN(w.schema)+"?"+setting)
		require.NoError(t, err)
		_, err = election.NewSQLStorage(db, "")
		assert.ErrorContains(t, err, setting[:5])
		require.NoError(t, db.Close())
	}
}

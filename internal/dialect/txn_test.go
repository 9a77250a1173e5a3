package dialect

import (
	"database/sql"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// endedElsewhere returns a transaction that somebody else has begun to end, and cannot
// end before release is called, as rows of it are still read.
func endedElsewhere(t *testing.T, watched bool) (txn *Txn, release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	last, err := SQLite().Last(t.Context(), db)
	require.NoError(t, err)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	txn, err = beginTxn(t.Context(), conn)
	require.NoError(t, err)
	if watched {
		require.NoError(t, txn.Watch(t.Context(), last))
	}
	rows, err := txn.Query("SELECT 1 UNION SELECT 2")
	require.NoError(t, err)
	require.True(t, rows.Next())
	require.NoError(t, rows.Scan(&sql.RawBytes{})) // until the next call of rows, nobody else closes them
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- txn.Tx.Rollback() }()
	}
	require.ErrorIs(t, <-ended, sql.ErrTxDone) // so the other one waits
	return txn, sync.OnceFunc(func() {
		require.NoError(t, rows.Close())
		require.NoError(t, <-ended)
		require.NoError(t, conn.Close())
	})
}

func TestTxnKnowsOfItsOwnEnd(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	for _, end := range []func(*Txn) error{(*Txn).Commit, (*Txn).Rollback, func(x *Txn) error { x.End(); return nil }} {
		txn, err := beginTxn(t.Context(), conn)
		require.NoError(t, err)
		require.NoError(t, end(txn))
		assert.True(t, txn.End())
		assert.True(t, txn.End())
	}
}

// Nobody is told that a transaction is over while rows of it are read.
func TestTrap24TxnDoesNotKnowOfAnothersEnd(t *testing.T) {
	t.Parallel()
	txn, release := endedElsewhere(t, false)
	defer release()
	require.ErrorIs(t, txn.Commit(), sql.ErrTxDone)
	assert.False(t, txn.End())
}

func TestTrap24TxnWaitsForAnothersEnd(t *testing.T) {
	t.Parallel()
	txn, release := endedElsewhere(t, true)
	defer release()
	var released atomic.Bool
	waits := make(chan struct{})
	go func() {
		<-waits
		for range 1000 { // it returns at once or not at all
			runtime.Gosched()
		}
		released.Store(true)
		release()
	}()
	close(waits)
	assert.True(t, txn.End())
	assert.True(t, released.Load(), "rows of it were still read")
}

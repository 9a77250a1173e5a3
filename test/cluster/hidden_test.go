package main

import (
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
)

// In a prepared SELECT a server loses the news of a conflict now and then: it has
// rolled the transaction back, and what follows is another one. Nothing of that is
// committed. Where the driver prepares nothing, the server tells of all conflicts.
func TestTrap24ConflictThatTheServerHides(t *testing.T) {
	for _, parameters := range []string{"", "?interpolateParams=true"} {
		t.Run("DSN"+parameters, func(t *testing.T) {
			hidden := conflictsHidden(t, parameters)
			assert.False(t, hidden > 0 && parameters != "", "documented otherwise")
		})
	}
}

// conflictsHidden counts the conflicts of which the server did not tell.
func conflictsHidden(t *testing.T, parameters string) (hidden int) {
	const rounds = 100
	w := newWorld(t)
	handle, err := sql.Open("mysql", w.cluster.Nodes[0].DSN(w.schema)+parameters)
	require.NoError(t, err)
	t.Cleanup(func() { _ = handle.Close() })
	s, err := election.NewSQLStorage(handle, "")
	require.NoError(t, err)
	for i := range rounds {
		early, late := 2*i, 2*i+1
		r := reign{"a", w.mustChange(0, "a")}
		var changed sync.WaitGroup
		err := s.WithGuardTimeout(2*time.Second).TxnWithLeaderLock(r.in(t.Context()), "a", func(tx *sql.Tx) error {
			if _, err := tx.Exec("INSERT INTO ledger VALUES (?, ?, ?)", early, r.leader, r.term); err != nil {
				return err
			}
			changed.Go(func() { w.mustChange(1, "b") })
			defer changed.Wait()
			for range 20 {
				var n int
				if err := tx.QueryRow("SELECT COUNT(*) FROM ledger WHERE entry > ?", 0).Scan(&n); err != nil {
					return err
				}
			}
			changed.Wait()
			_, err := tx.Exec("INSERT INTO ledger VALUES (?, ?, ?)", late, r.leader, r.term)
			return err
		})
		require.Error(t, err)
		if !election.IsRetryable(err) {
			require.ErrorIs(t, err, election.ErrTxnEnded)
			hidden++
		}
	}
	t.Logf("of %d conflicts, the server hid %d", rounds, hidden)
	seen := w.testify(2)
	assert.Empty(t, seen.violations)
	assert.Empty(t, seen.entries)
	return hidden
}

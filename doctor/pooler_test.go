package doctor_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/doctor"
	"github.com/sqlelect/election/internal/dbtest"
)

// A pooler that lends connections by the transaction.
func TestTransactionPooler(t *testing.T) {
	ownServers(t)
	db := dbtest.OwnPostgres(t)
	pooled := withParameter(t, db.Pooled(t), "default_query_exec_mode", "exec")
	report := examine(t, pooled)
	require.Contains(t, requireVerdict(t, report, "own session", doctor.Warning).Seen, "had session")
	requireVerdict(t, report, "wake-ups", doctor.Warning)
}

// The same, where the driver prepares statements that it does not find again.
func TestTransactionPoolerAndPreparedStatements(t *testing.T) {
	ownServers(t)
	db := dbtest.OwnPostgres(t)
	report := examine(t, db.Pooled(t))
	c := requireVerdict(t, report, "own session", doctor.Failure)
	require.Contains(t, c.Seen, "prepared statement")
	require.Contains(t, c.Do, "default_query_exec_mode=exec")
	require.Error(t, report.Err(doctor.Warning))
}

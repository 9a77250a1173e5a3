package doctor_test

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/doctor"
	"github.com/sqlelect/election/internal/dbtest"
)

// Whoever else in this process has the shared memory of the file open can drop its locks.
func TestSecondSQLiteLibrary(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	handle := db.Open(t)
	look := func() doctor.Check {
		report, err := doctor.Examine(t.Context(), handle, doctor.Options{})
		require.NoError(t, err)
		i := slices.IndexFunc(report.Checks, func(c doctor.Check) bool { return c.Name == "SQLite libraries" })
		require.NotEqual(t, -1, i)
		return report.Checks[i]
	}
	require.Equal(t, doctor.OK, look().Verdict)
	other, err := os.Open(db.Path + "-shm")
	require.NoError(t, err)
	defer other.Close()
	require.Equal(t, doctor.Failure, look().Verdict)
}

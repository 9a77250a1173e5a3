package otherdriver

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

func build(t *testing.T, tags string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "otherdriver")
	out, err := exec.Command("go", "build", "-tags", tags, "-o", program, "./program").CombinedOutput()
	require.NoError(t, err, string(out))
	return program
}

// Without the tags the program cannot even start; with them it elects and commits.
func TestBesideAnotherSQLiteDriver(t *testing.T) {
	both, alone := build(t, ""), build(t, "no_gorm,no_sqlite,no_mysql")
	out, err := exec.Command(both).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "Register called twice for driver sqlite")

	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if db.Engine != "postgres" {
			t.Skip("the program elects on PostgreSQL")
		}
		program := exec.Command(alone)
		program.Env = append(os.Environ(), "ELECTION_DSN="+db.Fresh(t).DSN)
		out, err := program.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "led and committed")
		require.Contains(t, string(out), "no_sqlite")
	})
}

package doctor_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/doctor"
	"github.com/sqlelect/election/internal/dbtest"
)

// An examination leaves no connection of the pool otherwise than a new one is.
func TestSessionsAreLeftAsTheyWere(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		if db.Direct != nil {
			t.Skip("no session of its own")
		}
		handle, unchanged := db.OpenFresh(t)
		_, err := doctor.Examine(t.Context(), handle, doctor.Options{})
		require.NoError(t, err)
		unchanged()
	})
}

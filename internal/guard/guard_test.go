package guard_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/guard"
)

var errNotMine = errors.New("not mine")

// world is a table "owned" with a row that somebody holds, and a table "written" for what
// transactions write.
type world struct {
	db      *dbtest.Database
	handle  *sql.DB
	dialect *dialect.Dialect
	guard.Database
}

func newWorld(t *testing.T, db *dbtest.Database) *world {
	t.Helper()
	w := &world{db: db, handle: db.Open(t)}
	var err error
	w.dialect, err = dialect.Detect(t.Context(), w.handle)
	require.NoError(t, err)
	types := w.dialect.Types
	dbtest.Exec(t, w.handle, "CREATE TABLE owned (id "+types.Integer+" NOT NULL PRIMARY KEY, holder "+types.Text+" NOT NULL, note "+types.Long+")"+w.dialect.TableOptions)
	dbtest.Exec(t, w.handle, "CREATE TABLE written (n "+types.Integer+" NOT NULL)"+w.dialect.TableOptions)
	dbtest.Exec(t, w.handle, "INSERT INTO owned VALUES (7, 'me', '')")
	w.Database = guard.Database{DB: w.handle, Dialect: w.dialect, Identity: dialect.MemoryIdentity("")}
	w.LastStmt, err = w.dialect.Last(t.Context(), w.handle)
	require.NoError(t, err)
	if w.LastStmt != nil {
		t.Cleanup(func() { _ = w.LastStmt.Close() })
	}
	return w
}

func (w *world) condition() dialect.Claim {
	return dialect.Claim{
		Table: w.dialect.Table("owned"), Name: "seven", Mark: "note",
		Where: "id = ? AND " + w.dialect.ByteEqual("holder"), Args: []any{7, "me"},
	}
}

func (w *world) claim() *guard.Claim {
	return &guard.Claim{Condition: w.condition, Refused: errNotMine, Timeout: time.Minute}
}

func write(tx *sql.Tx, n string) error {
	_, err := tx.Exec("INSERT INTO written VALUES (" + n + ")")
	return err
}

func eachWorld(t *testing.T, run func(t *testing.T, w *world)) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) { run(t, newWorld(t, db.Fresh(t))) })
}

// Any table with a row that says whose it is can be guarded.
func TestRunCommitsForTheHolderOnly(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		claim := w.claim()
		held := time.Duration(-1)
		claim.Took = func(d time.Duration) { held = d }
		require.NoError(t, w.Run(t.Context(), claim, func(_ context.Context, tx *sql.Tx) error { return write(tx, "1") }))
		require.GreaterOrEqual(t, held, time.Duration(0))
		require.Equal(t, 1, dbtest.Count(t, w.handle, "written"))

		boom := errors.New("boom")
		err := w.Run(t.Context(), claim, func(_ context.Context, tx *sql.Tx) error { return errors.Join(write(tx, "2"), boom) })
		require.ErrorIs(t, err, boom)
		require.Equal(t, 1, dbtest.Count(t, w.handle, "written"))

		dbtest.Exec(t, w.handle, "UPDATE owned SET holder = 'them'")
		claim.Explain = func(err error) error { return errors.Join(errors.New("explained"), err) }
		err = w.Run(t.Context(), claim, func(_ context.Context, tx *sql.Tx) error { return write(tx, "3") })
		require.ErrorIs(t, err, errNotMine)
		require.ErrorContains(t, err, "explained")
		require.Equal(t, 1, dbtest.Count(t, w.handle, "written"))
	})
}

// A claim that does not hold is mended once, where it can be; one that is not valid any
// more when the function has returned is not committed.
func TestRunMendsAndAsksOnceMore(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		dbtest.Exec(t, w.handle, "UPDATE owned SET holder = 'nobody'")
		claim, mends := w.claim(), 0
		claim.Mend = func(context.Context) (bool, error) {
			if mends++; mends > 1 {
				return false, nil
			}
			dbtest.Exec(t, w.handle, "UPDATE owned SET holder = 'me'")
			return true, nil
		}
		require.NoError(t, w.Run(t.Context(), claim, func(_ context.Context, tx *sql.Tx) error { return write(tx, "1") }))
		require.Equal(t, 1, mends)

		stale := errors.New("stale")
		claim.Valid = func() error { return stale }
		require.ErrorIs(t, w.Run(t.Context(), claim, func(_ context.Context, tx *sql.Tx) error { return write(tx, "2") }), stale)
		require.Equal(t, 1, dbtest.Count(t, w.handle, "written"))

		dbtest.Exec(t, w.handle, "UPDATE owned SET holder = 'them'")
		require.ErrorIs(t, w.Run(t.Context(), claim, func(context.Context, *sql.Tx) error { return nil }), errNotMine)
		require.Equal(t, 2, mends)
	})
}

// A transaction whose time is over is rolled back under its function, and says so.
func TestRunEndsWithTheTimeout(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		claim := w.claim()
		claim.Timeout = 300 * time.Millisecond
		err := w.Run(t.Context(), claim, func(ctx context.Context, tx *sql.Tx) error {
			if err := write(tx, "1"); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "guard timeout of 300ms has passed")
		require.Zero(t, dbtest.Count(t, w.handle, "written"))
	})
}

// A transaction of the caller's own that holds a claim keeps everybody from changing the row
// until it ends; one whose claim does not hold is told.
func TestHoldInTheCallersTransaction(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		tx, err := w.handle.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		held, err := w.dialect.Hold(t.Context(), tx, w.condition())
		require.NoError(t, err)
		require.True(t, held)
		require.NoError(t, write(tx, "1"))

		other := w.db.Open(t)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = other.ExecContext(ctx, w.dialect.BoundedWrite+"UPDATE owned SET holder = 'them'")
		require.Error(t, err, "the row was changed under a transaction that holds it")
		require.NoError(t, tx.Commit())
		require.Equal(t, 1, dbtest.Count(t, w.handle, "written"))

		dbtest.Exec(t, w.handle, "UPDATE owned SET holder = 'them'")
		tx, err = w.handle.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		held, err = w.dialect.Hold(t.Context(), tx, w.condition())
		require.NoError(t, err)
		require.False(t, held)
	})
}

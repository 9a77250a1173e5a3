package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

// stragglerEnds are what a goroutine that fn left behind may do to end the transaction.
var stragglerEnds = []struct {
	name string
	end  func(tx *sql.Tx, cancel context.CancelFunc)
}{
	{"tx.Rollback", func(tx *sql.Tx, _ context.CancelFunc) { _ = tx.Rollback() }},
	{"tx.Commit", func(tx *sql.Tx, _ context.CancelFunc) { _ = tx.Commit() }},
	{"ROLLBACK", func(tx *sql.Tx, _ context.CancelFunc) { _, _ = tx.Exec("ROLLBACK"); _ = tx.Rollback() }},
	{"COMMIT", func(tx *sql.Tx, _ context.CancelFunc) { _, _ = tx.Exec("COMMIT"); _ = tx.Rollback() }},
	{"cancel", func(tx *sql.Tx, cancel context.CancelFunc) { cancel(); _ = tx.Rollback() }},
}

// straggle is one guarded transaction of w.a whose goroutines write on, through tx and
// through statements that they prepare in it, while one of them ends it after some of
// these writes and fn returns after some.
type straggle struct {
	w           guardWorld
	end         func(tx *sql.Tx, cancel context.CancelFunc)
	endsAfter   int  // writes; or, if it is negative, as many turns of the scheduler after fn
	returnAfter int  // writes
	rows        bool // one of them holds rows open
}

const stragglers, mostWrites = 4, 300

// run returns what was in the log when another member had become the leader, and in the end.
func (s straggle) run(t *testing.T) (then, finally []string, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	led, returning := make(chan error, 1), make(chan struct{})
	err = guarded(ctx, s.w.a, "a", func(tx *sql.Tx) error {
		if err := write(tx, "first"); err != nil {
			return err
		}
		running.Go(func() {
			_, err := lead(t.Context(), s.w.b, "b") // waits for the guard
			then = s.w.entries(t)
			led <- err
		})
		written := make(chan struct{}, stragglers*2*mostWrites) // nobody waits to send
		for i := range stragglers {
			running.Go(func() { writeOn(tx, i, written) })
		}
		if s.rows {
			rows, err := tx.Query("SELECT entry FROM log")
			if err == nil && rows.Next() {
				running.Go(func() { _ = rows.Err() }) // nobody closes them
			}
		}
		running.Go(func() {
			for range s.endsAfter {
				<-written
			}
			if s.endsAfter < 0 {
				<-returning
			}
			for range -s.endsAfter {
				runtime.Gosched()
			}
			s.end(tx, cancel)
		})
		defer close(returning)
		for range s.returnAfter {
			<-written
		}
		return nil
	})
	running.Wait()
	require.NoError(t, <-led)
	return then, s.w.entries(t), err
}

// writeOn writes until the transaction is over for database/sql.
func writeOn(tx *sql.Tx, writer int, written chan<- struct{}) {
	for n, err := 0, error(nil); n < mostWrites && !errors.Is(err, sql.ErrTxDone); n++ {
		entry := fmt.Sprint(writer, " ", n)
		if writer%2 == 0 {
			err = write(tx, entry)
		} else if stmt, prepareErr := tx.Prepare("INSERT INTO log (entry) VALUES ('" + entry + "')"); prepareErr == nil {
			_, err = stmt.Exec()
			_ = stmt.Close()
		} else {
			err = prepareErr
		}
		written <- struct{}{}
	}
	for range mostWrites { // nobody waits in vain to receive
		written <- struct{}{}
	}
}

// Goroutines that fn leaves behind write on while one of them ends the transaction, at
// whatever moment of the library's own end. Nothing of theirs lands once another member
// leads, what was acknowledged is there, and the connection is as it was.
func TestTrap24StragglersEndTheTransaction(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		rounds := 100
		if db.Engine == "postgres" {
			rounds = 25 // each takes a connection
		}
		requireNoneLate(t, newGuardWorld(t, db, kind), rounds)
	})
}

// A database in memory that is one connection is not lost with it.
func TestTrap24StragglersInPrivateMemory(t *testing.T) {
	t.Parallel()
	for _, kind := range storageKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			handle, err := sql.Open("sqlite", ":memory:")
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, handle.Close()) })
			handle.SetMaxOpenConns(1)
			s := kind.must(t, handle)
			dbtest.Exec(t, handle, "CREATE TABLE log (entry VARCHAR(40) PRIMARY KEY)")
			requireNoneLate(t, guardWorld{db: handle, otherDB: handle, a: s, b: s}, 100)
		})
	}
}

func requireNoneLate(t *testing.T, w guardWorld, rounds int) {
	t.Helper()
	acknowledged := 0
	for round := range rounds {
		end := stragglerEnds[round%len(stragglerEnds)]
		mustLead(t, w.b, "a")
		dbtest.Exec(t, w.otherDB, "DELETE FROM log")
		then, finally, err := straggle{w, end.end, round%60/2 - 25, round % 4, round%10 == 9}.run(t)
		if err == nil {
			acknowledged++
			require.Contains(t, finally, "first", "%s: acknowledged", end.name)
		}
		require.Equal(t, then, finally, "%s: entries after another member led, error %v", end.name, err)
	}
	t.Logf("%d of %d were acknowledged", acknowledged, rounds)
	requireUsable(t, w)
}

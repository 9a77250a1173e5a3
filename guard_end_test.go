package election_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
)

// ending is a way in which a transaction can end inside fn.
type ending struct {
	run func(t *testing.T, w guardWorld, tx *sql.Tx)
	// What was written before is committed, while the guard still held: no server
	// can be kept from obeying a COMMIT. SQLite can.
	commits bool
	// The connection is in a transaction again, which may hold a lock.
	locks bool
	// The server refuses it: the transaction, and the guard, go on.
	refused bool
	// The server does not count what follows as a new transaction, or gives that the
	// old one's ways, so that a raw COMMIT after it would be obeyed.
	goesOn bool
}

// endings are those that exist on an engine.
func endings(engine string) map[string]ending {
	raw := func(statements ...string) func(*testing.T, guardWorld, *sql.Tx) {
		return func(_ *testing.T, _ guardWorld, tx *sql.Tx) {
			for _, s := range statements {
				_, _ = tx.Exec(s)
			}
		}
	}
	commits, refused := engine == "postgres", engine == "mysql"
	all := map[string]ending{
		"RawCommit":        {run: raw("COMMIT"), commits: commits, refused: refused},
		"RawRollback":      {run: raw("ROLLBACK"), refused: refused},
		"RollbackAndBegin": {run: raw("ROLLBACK", "BEGIN"), locks: true, refused: refused},
		"CommitAndBegin":   {run: raw("COMMIT", "BEGIN"), commits: commits, locks: true, refused: refused},
		"RollbackCommit":   {run: raw("ROLLBACK", "BEGIN", "INSERT INTO log (entry) VALUES ('smuggled')", "COMMIT"), refused: refused},
		"Savepoint":        {run: raw("ROLLBACK", "SAVEPOINT s", "INSERT INTO log (entry) VALUES ('smuggled')", "RELEASE SAVEPOINT s"), refused: refused},
		"Commit":           {run: func(_ *testing.T, _ guardWorld, tx *sql.Tx) { _ = tx.Commit() }, commits: commits, locks: refused},
		"Rollback":         {run: func(_ *testing.T, _ guardWorld, tx *sql.Tx) { _ = tx.Rollback() }, locks: refused},
	}
	switch engine {
	case "sqlite":
		all["OneString"] = ending{run: raw("ROLLBACK; INSERT INTO log (entry) VALUES ('smuggled')")}
		all["OrRollback"] = ending{run: raw("INSERT OR ROLLBACK INTO log (entry) VALUES ('before')")}
		all["Interrupted"] = ending{run: interrupt}
	case "postgres":
		all["OneString"] = ending{run: raw("ROLLBACK; INSERT INTO log (entry) VALUES ('smuggled')")}
		all["Error"] = ending{run: raw("nonsense"), locks: true} // until it is rolled back
		all["ErrorAndRollback"] = ending{run: raw("nonsense", "ROLLBACK")}
		all["ErrorAndCommit"] = ending{run: raw("nonsense", "COMMIT")}
		all["RollbackAndChain"] = ending{run: raw("ROLLBACK AND CHAIN"), goesOn: true}
	case "mysql":
		for name, statement := range map[string]string{
			"DDL": "CREATE TABLE IF NOT EXISTS other (x INTEGER)", "Begin": "BEGIN", "LockTables": "LOCK TABLES log WRITE",
			"CommitAndChain": "COMMIT AND CHAIN", "RollbackAndChain": "ROLLBACK AND CHAIN", "Autocommit": "SET autocommit = 1", "AutocommitOff": "SET autocommit = 0",
			"Analyze": "ANALYZE TABLE log", "Truncate": "TRUNCATE TABLE log", "ReadWrite": "START TRANSACTION READ WRITE",
		} {
			all[name] = ending{run: raw(statement), refused: true}
			all["Deadlock"+name] = ending{run: func(t *testing.T, w guardWorld, tx *sql.Tx) {
				deadlock(t, w, tx)
				_, _ = tx.Exec(statement)
			}}
		}
		all["Deadlock"] = ending{run: deadlock}
	}
	return all
}

// interrupt ends statements until it hits one that is under way: that one takes
// the transaction with it. (One driver's interrupt can miss, so it must end.)
func interrupt(_ *testing.T, _ guardWorld, tx *sql.Tx) {
	for timeout := 5 * time.Millisecond; ; timeout *= 2 {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		_, _ = tx.ExecContext(ctx, `INSERT INTO log SELECT n FROM
			(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1000000) SELECT n FROM c) WHERE n < 0`)
		cancel()
		var n int
		if tx.QueryRow("SELECT COUNT(*) FROM log").Scan(&n) != nil || n == 0 {
			return
		}
	}
}

// deadlock makes tx the victim of one: it is the smaller of the two.
func deadlock(t *testing.T, w guardWorld, tx *sql.Tx) {
	other, err := w.otherDB.Begin()
	require.NoError(t, err)
	defer func() { _ = other.Rollback() }()
	_, err = other.Exec("INSERT INTO log (entry) VALUES ('1'), ('2'), ('3'), ('4'), ('5'), ('6'), ('7'), ('8')")
	require.NoError(t, err)
	freed := make(chan error)
	go func() {
		_, err := other.Exec("DELETE FROM log WHERE entry = 'before'")
		freed <- err
	}()
	lost := write(tx, "1")
	require.NoError(t, <-freed)
	require.Equal(t, dialect.Retry, dialect.Classify(lost), "%v", lost)
}

// The transaction ends inside fn, another member takes over, fn writes on and
// returns nil: nothing more lands, and the error says so.
func TestTrap24TransactionEndsInside(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		for name, end := range endings(db.Engine) {
			t.Run(name, func(t *testing.T) {
				w := newGuardWorld(t, db.Fresh(t), kind)
				if end.refused {
					requireWhole(t, w, end)
					return
				}
				err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
					require.NoError(t, write(tx, "before"))
					end.run(t, w, tx)
					if !end.locks {
						mustLead(t, w.b, "b")
					}
					_ = write(tx, "after")
					if !end.goesOn {
						_, _ = tx.Exec("COMMIT")
						_ = write(tx, "after commit")
					}
					return nil
				})
				require.ErrorIs(t, err, election.ErrTxnEnded)
				assert.NotErrorIs(t, err, election.ErrOutcomeUnknown)
				if end.commits {
					assert.Equal(t, []string{"before"}, w.entries(t))
				} else {
					assert.Empty(t, w.entries(t))
				}

				// An error of fn is kept, beside what is known without asking the server.
				mustLead(t, w.b, "a")
				dbtest.Exec(t, w.otherDB, "DELETE FROM log")
				boom := errors.New("boom")
				err = guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
					require.NoError(t, write(tx, "before"))
					end.run(t, w, tx)
					_ = write(tx, "after")
					return boom
				})
				require.ErrorIs(t, err, boom)
				if db.Engine == "sqlite" {
					require.ErrorIs(t, err, election.ErrTxnEnded)
				}
				assert.NotContains(t, w.entries(t), "after")
				requireUsable(t, w)
			})
		}
	})
}

// requireWhole checks a transaction that the server does not let fn end: the guard
// holds on, and all of it is committed, or nothing.
func requireWhole(t *testing.T, w guardWorld, end ending) {
	t.Helper()
	for _, boom := range []error{errors.New("boom"), nil} {
		err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
			require.NoError(t, write(tx, "before"))
			end.run(t, w, tx)
			w.requireHeldUp(t, "b")
			require.NoError(t, write(tx, "after"))
			_, _ = tx.Exec("COMMIT")
			return boom
		})
		if boom != nil {
			require.ErrorIs(t, err, boom)
			require.Empty(t, w.entries(t))
			continue
		}
		require.NoError(t, err)
		require.Contains(t, w.entries(t), "before")
		require.Contains(t, w.entries(t), "after")
	}
	requireUsable(t, w)
}

// Goroutines that fn leaves behind write on while the transaction is ended by
// several of them at once: still nothing lands, then or later.
func TestTrap24Stragglers(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		w := newGuardWorld(t, db, storageKinds()[0])
		for round := range 20 {
			var done sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			err := guarded(ctx, w.a, "a", func(tx *sql.Tx) error {
				if db.Engine == "mysql" { // refuses every other end
					require.NoError(t, write(tx, "before"))
					deadlock(t, w, tx)
				}
				_, _ = tx.Exec("ROLLBACK")
				for i := range 4 {
					done.Go(func() {
						for n := 0; write(tx, fmt.Sprint(round, i, n)) != sql.ErrTxDone; n++ {
							if n == 3 && i < 2 {
								_, _ = tx.Exec("COMMIT")
								_ = tx.Rollback()
							}
						}
					})
				}
				if round%2 == 0 {
					cancel()
				}
				return nil
			})
			require.Error(t, err)
			done.Wait()
			cancel()
			require.Empty(t, w.entries(t))
		}
		requireUsable(t, w)
	})
}

// requireUsable checks that the connection of w.db, the only one of its pool, is
// as it was: what is written there without a transaction, in one, and in a
// guarded one is there for others to see.
func requireUsable(t *testing.T, w guardWorld) {
	t.Helper()
	dbtest.Exec(t, w.otherDB, "DELETE FROM log")
	if r, err := w.a.Get(t.Context()); assert.NoError(t, err) && r.LeaderID != "a" {
		mustLead(t, w.b, "a")
	}
	dbtest.Exec(t, w.db, "INSERT INTO log (entry) VALUES ('1 plain')")
	require.Equal(t, []string{"1 plain"}, w.entries(t))
	tx, err := w.db.Begin()
	require.NoError(t, err)
	require.NoError(t, write(tx, "2 undone"))
	require.NoError(t, tx.Rollback())
	tx, err = w.db.Begin()
	require.NoError(t, err)
	require.NoError(t, write(tx, "3 transaction"))
	require.NoError(t, tx.Commit())
	require.NoError(t, guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error { return write(tx, "4 guarded") }))
	require.Equal(t, []string{"1 plain", "3 transaction", "4 guarded"}, w.entries(t))
}

// However a guarded transaction ends, the pooled connection is as before.
func TestTrap28ConnectionIsRestored(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		before := sessionState(t, w.db)
		run := func(ctx context.Context, fn func(tx *sql.Tx) error) error { return guarded(ctx, w.a, "a", fn) }
		for _, end := range []struct {
			name string
			run  func(t *testing.T)
		}{
			{"Return", func(t *testing.T) {
				require.NoError(t, run(t.Context(), func(tx *sql.Tx) error { return write(tx, "kept") }))
				require.Equal(t, []string{"kept"}, w.entries(t))
			}},
			{"Error", func(t *testing.T) {
				require.ErrorIs(t, run(t.Context(), func(tx *sql.Tx) error {
					require.NoError(t, write(tx, "undone"))
					return boom
				}), boom)
			}},
			{"Panic", func(t *testing.T) {
				require.PanicsWithValue(t, boom, func() {
					_ = run(t.Context(), func(tx *sql.Tx) error {
						require.NoError(t, write(tx, "undone"))
						panic(boom)
					})
				})
			}},
			{"Goexit", func(t *testing.T) {
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = run(context.Background(), func(tx *sql.Tx) error {
						_ = write(tx, "undone")
						runtime.Goexit()
						return nil
					})
				}()
				<-done
			}},
			{"NotLeader", func(t *testing.T) {
				require.ErrorIs(t, guarded(t.Context(), w.a, "b", func(*sql.Tx) error { return nil }), election.ErrNotLeader)
			}},
			{"ContextEndsBefore", func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				cancel(boom)
				err := run(ctx, func(*sql.Tx) error { panic("was called") })
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorIs(t, err, boom)
			}},
			{"ContextEndsInside", func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				err := run(ctx, func(tx *sql.Tx) error {
					require.NoError(t, write(tx, "undone"))
					cancel(boom)
					return nil
				})
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorIs(t, err, boom)
				require.NotErrorIs(t, err, election.ErrOutcomeUnknown)
			}},
			{"GuardTimeout", func(t *testing.T) {
				hasty := withGuardTimeout(w.a, 20*time.Millisecond)
				err := guarded(t.Context(), hasty, "a", func(tx *sql.Tx) error {
					_ = write(tx, "undone")               // may come too late, on a busy machine
					_, err := lead(t.Context(), w.b, "a") // waits for the rollback
					return err
				})
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.ErrorContains(t, err, "guard timeout of 20ms")
			}},
			{"OpenRows", func(t *testing.T) {
				err := run(t.Context(), func(tx *sql.Tx) error {
					rows, err := tx.Query("SELECT 1 UNION SELECT 2")
					require.True(t, rows.Next())
					return err // never closed
				})
				if db.Engine == "sqlite" {
					require.NoError(t, err)
				} else { // the connection is busy with them
					require.Error(t, err)
				}
			}},
		} {
			t.Run(end.name, func(t *testing.T) {
				end.run(t)
				require.Equal(t, before, sessionState(t, w.db))
				if end.name != "Return" {
					assert.Empty(t, w.entries(t))
				}
				requireUsable(t, w)
				dbtest.Exec(t, w.otherDB, "DELETE FROM log")
			})
		}
	})
}

// A connection that the server ends under a guarded transaction is gone, and
// leaves nothing behind.
func TestTrap28KilledConnection(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		before := sessionState(t, w.db)
		for _, writes := range []bool{true, false} {
			err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
				require.NoError(t, write(tx, "undone"))
				kill(t, db, w.otherDB, tx)
				mustLead(t, w.b, "b") // it no longer holds the guard
				if writes {
					return write(tx, "lost")
				}
				return nil
			})
			require.Error(t, err)
			if writes || db.Engine == "postgres" { // else it is the COMMIT that fails
				require.NotErrorIs(t, err, election.ErrOutcomeUnknown)
			}
			require.False(t, election.IsRetryable(err))
			require.Empty(t, w.entries(t))
			require.Equal(t, before, sessionState(t, w.db))
			requireUsable(t, w)
			dbtest.Exec(t, w.otherDB, "DELETE FROM log")
		}
	})
}

// kill ends tx's connection, and waits until the server has done so.
func kill(t *testing.T, db *dbtest.Database, admin *sql.DB, tx *sql.Tx) {
	t.Helper()
	own, end, find := "SELECT CONNECTION_ID()", "KILL %d", "SELECT COUNT(*) FROM information_schema.processlist WHERE id = %d"
	if db.Engine == "postgres" {
		own, end, find = "SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%d)", "SELECT COUNT(*) FROM pg_stat_activity WHERE pid = %d"
	}
	var id, n int
	require.NoError(t, tx.QueryRow(own).Scan(&id))
	dbtest.Exec(t, admin, fmt.Sprintf(end, id))
	waitFor(t, 10*time.Second, "the connection's end", func() bool {
		require.NoError(t, admin.QueryRow(fmt.Sprintf(find, id)).Scan(&n))
		return n == 0
	})
}

// A savepoint of fn's own ends nothing: the guard holds on when it is rolled back,
// also after an error.
func TestSavepointsInsideAGuardedTransaction(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		w := newGuardWorld(t, db, kind)
		require.NoError(t, guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
			for _, statement := range []string{"SAVEPOINT first", "INSERT INTO log (entry) VALUES ('1')", "SAVEPOINT second"} {
				_, err := tx.Exec(statement)
				require.NoError(t, err, statement)
			}
			require.NoError(t, write(tx, "2 undone"))
			require.Error(t, write(tx, "1"), "a duplicate")
			_, err := tx.Exec("ROLLBACK TO SAVEPOINT second")
			require.NoError(t, err)
			w.requireHeldUp(t, "b")
			return write(tx, "3")
		}))
		assert.Equal(t, []string{"1", "3"}, w.entries(t))
		requireUsable(t, w)
	})
}

// When fn ended the transaction by tx itself, a statement may still be on its way
// on that connection: it does not go back to the pool of a server, and on SQLite not before
// that end. Others do.
func TestTrap28EndedByFunction(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		handle.SetMaxOpenConns(1)
		s := openSQL(t, handle)
		mustLead(t, s, "a")
		run := func(fn func(tx *sql.Tx) error) (opened int, err error) {
			before := statements.Connections()
			err = s.TxnWithLeaderLock(t.Context(), "a", fn)
			require.NoError(t, handle.Ping())
			return statements.Connections() - before, err
		}
		opened, err := run(func(tx *sql.Tx) error { _ = tx.Rollback(); return nil })
		require.ErrorIs(t, err, election.ErrTxnEnded)
		assert.Equal(t, db.Engine != "sqlite", opened == 1)
		boom := errors.New("boom")
		opened, err = run(func(tx *sql.Tx) error { _ = tx.Rollback(); return boom })
		require.ErrorIs(t, err, boom)
		assert.Equal(t, db.Engine != "sqlite", opened == 1, "an error of the function's own")
		for _, want := range []error{nil, boom} {
			opened, err = run(func(*sql.Tx) error { return want })
			require.ErrorIs(t, err, want)
			assert.Zero(t, opened)
		}
	})
}

// A connection that breaks is thrown away, and a COMMIT that it swallowed may
// have happened.
func TestTrap28BrokenConnection(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		handle.SetMaxOpenConns(1)
		w := guardWorld{db: handle, otherDB: db.Open(t)}
		w.a, w.b = openSQL(t, w.db), openSQL(t, w.otherDB)
		dbtest.Exec(t, w.otherDB, "CREATE TABLE log (entry VARCHAR(40) PRIMARY KEY)")
		mustLead(t, w.a, "a")
		err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
			require.NoError(t, write(tx, "undone"))
			statements.Break()
			return write(tx, "lost")
		})
		require.Error(t, err)
		require.NotErrorIs(t, err, election.ErrOutcomeUnknown)
		requireUsable(t, w)

		err = guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
			statements.Break()
			return nil
		})
		if db.Engine == "sqlite" {
			require.ErrorIs(t, err, election.ErrOutcomeUnknown)
		} else { // the statement before COMMIT fails first: nothing is in doubt
			require.Error(t, err)
			require.NotErrorIs(t, err, election.ErrOutcomeUnknown)
		}
		assert.False(t, election.IsRetryable(err))
		requireUsable(t, w)
	})
}

// Connections that the server closed while they lay in the pool cost nothing.
func TestStaleConnections(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		handle, statements := db.OpenCounted(t)
		s := openSQL(t, handle)
		mustLead(t, s, "a")
		statements.Break()
		require.NoError(t, s.TxnWithLeaderLock(t.Context(), "a", func(*sql.Tx) error { return nil }))
		statements.Break()
		require.NoError(t, s.Update(t.Context(), &election.Record{LeaderID: "b", Version: 1, Term: 2}, true))
	})
}

package election_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// A COMMIT that a server has or has not seen, and whose reply does not come.

// fate is what becomes of a COMMIT on a wire, and of its connection.
type fate struct {
	stored bool // the server gets it, and only its reply is lost
	silent bool // the connection is not reset: nothing more arrives, either way
}

func (f fate) String() string {
	lost, end := "request", "reset"
	if f.stored {
		lost = "reply"
	}
	if f.silent {
		end = "silence"
	}
	return lost + " lost, then " + end
}

// resets are the fates that end soon.
func resets() []fate { return []fate{{stored: true}, {stored: false}} }

// wire is a network whose loss begins exactly at a COMMIT, which a proxy that
// knows no protocol cannot do.
type wire struct {
	mu    sync.Mutex
	next  *fate // of the next COMMIT
	sent  int   // packets, or as many at once as a driver sends
	until *int  // so many more, and it falls silent
	conns []*wireConn
}

// lose decides what becomes of the next COMMIT.
func (w *wire) lose(f fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = &f
}

// silence lets so many packets pass.
func (w *wire) silence(packets int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = &packets
}

// lost reports whether that COMMIT has come.
func (w *wire) lost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next == nil
}

// cut ends every connection.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
}

// trips returns how many round trips f takes.
func (w *wire) trips(f func()) int {
	sent := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.sent
	}
	before := sent()
	f()
	return sent() - before
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	inner, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &wireConn{Conn: inner, wire: w}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, c)
	return c, nil
}

// openWire returns a handle with one connection on a wire of its own.
func openWire(t *testing.T, db *dbtest.Database) (*sql.DB, *wire) {
	t.Helper()
	w := new(wire)
	var handle *sql.DB
	if db.Engine == "postgres" {
		config, err := pgx.ParseConfig(db.DSN)
		require.NoError(t, err)
		config.DialFunc = w.dial
		config.DefaultQueryExecMode = pgx.QueryExecModeExec // every statement with its text
		handle = stdlib.OpenDB(*config)
	} else {
		config, err := mysql.ParseDSN(db.DSN)
		require.NoError(t, err)
		config.DialFunc = w.dial
		connector, err := mysql.NewConnector(config)
		require.NoError(t, err)
		handle = sql.OpenDB(connector)
	}
	handle.SetMaxOpenConns(1)
	t.Cleanup(func() { w.cut(); _ = handle.Close() })
	return handle, w
}

// wireConn is one connection. What has happened to it is written by Write before
// the Read of the reply, on one goroutine or with the driver's own order.
type wireConn struct {
	net.Conn
	wire *wire
	mu   sync.Mutex
	fate *fate // once it has met it
}

func (c *wireConn) met() *fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fate
}

// meet takes the wire's fate if packet commits.
func (c *wireConn) meet(packet []byte) (f *fate, now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := bytes.TrimRight(packet, "\x00")
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	if c.fate == nil && c.wire.until != nil {
		if *c.wire.until--; *c.wire.until < 0 {
			c.fate = &fate{silent: true}
		}
	}
	if c.fate == nil && (bytes.HasSuffix(text, []byte("COMMIT")) || bytes.HasSuffix(text, []byte("commit")) ||
		bytes.Contains(text, []byte("XA COMMIT")) || bytes.Contains(text, []byte("THEN COMMIT")) || bytes.Contains(text, []byte("COMMIT\x00"))) {
		c.fate, c.wire.next, now = c.wire.next, nil, c.wire.next != nil
	}
	return c.fate, now
}

func (c *wireConn) Write(packet []byte) (int, error) {
	c.wire.mu.Lock()
	c.wire.sent++
	c.wire.mu.Unlock()
	f, now := c.meet(packet)
	switch {
	case f == nil, now && f.stored:
		return c.Conn.Write(packet)
	case now && !f.silent:
		_ = c.Conn.Close()
	}
	return len(packet), nil
}

func (c *wireConn) Read(buffer []byte) (int, error) {
	for {
		n, err := c.Conn.Read(buffer)
		f := c.met()
		switch {
		case f == nil:
			return n, err
		case !f.silent: // the reply has come, or the connection was closed before
			_ = c.Conn.Close()
			return 0, syscall.ECONNRESET
		case err != nil:
			return 0, err
		}
	}
}

func newOutcomeWorld(t *testing.T, db *dbtest.Database, kind storageKind) (guardWorld, *wire) {
	t.Helper()
	handle, line := openWire(t, db)
	w := guardWorld{db: handle, otherDB: db.Open(t)}
	w.a, w.b = kind.must(t, w.db), kind.must(t, w.otherDB)
	dbtest.Exec(t, w.otherDB, "CREATE TABLE log (entry VARCHAR(40) PRIMARY KEY)")
	w.term = mustLead(t, w.b, "a")
	return w, line
}

// The reply of a guarded transaction's COMMIT does not come: whatever has become
// of it, the error says that nobody knows, and not that it may be run again.
func TestTrap10CommitOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		for _, f := range resets() {
			w, line := newOutcomeWorld(t, db.Fresh(t), kind)
			line.lose(f)
			err := guarded(inTerm(t.Context(), "a", w.term), w.a, "a", func(tx *sql.Tx) error { return write(tx, "entry") })
			require.True(t, line.lost(), "the test has not seen a COMMIT")
			require.ErrorIs(t, err, election.ErrOutcomeUnknown, "%v", f)
			for _, certain := range []error{election.ErrNotLeader, election.ErrTxnEnded, election.ErrRecordConflict} {
				require.NotErrorIs(t, err, certain)
			}
			require.False(t, election.IsRetryable(err), "%v", f)

			mustLead(t, w.b, "a") // the server is done with it: it no longer holds the guard
			if f.stored {
				require.Equal(t, []string{"entry"}, w.entries(t))
			} else {
				require.Empty(t, w.entries(t))
			}
			requireUsable(t, w)
		}
	})
}

// The reply of a change of leader does not come: the error is no conflict, what is
// read next is what is stored, and the next change starts from there.
func TestTrap10ChangeOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		for _, f := range resets() {
			w, line := newOutcomeWorld(t, db.Fresh(t), kind)
			before, err := w.a.Get(t.Context())
			require.NoError(t, err)
			next := before.Clone()
			next.LeaderID, next.Term = "b", before.Term+1
			line.lose(f)
			err = w.a.Update(t.Context(), next, true)
			require.True(t, line.lost(), "the test has not seen a COMMIT")
			require.Error(t, err, "%v", f)
			require.NotErrorIs(t, err, election.ErrRecordConflict, "%v", f)

			want := before
			if f.stored {
				want = next.Clone()
				want.Version++
			}
			for _, s := range []election.Storage{w.a, w.b} {
				got, err := s.Get(t.Context())
				require.NoError(t, err)
				require.Equal(t, want, got, "%v", f)
			}
			require.NoError(t, guarded(inTerm(t.Context(), want.LeaderID, want.Term), w.b, want.LeaderID, func(*sql.Tx) error { return nil }))
			mustLead(t, w.a, "c")
			require.NoError(t, guarded(t.Context(), w.b, "c", func(*sql.Tx) error { return nil }))
		}
	})
}

// An elector whose acquisition or resignation meets that fate: it leads in a term
// that it has seen acknowledged, and nobody leads in the end.
func TestTrap10ElectorMeetsUnknownOutcomes(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		for _, f := range resets() {
			handle, line := openWire(t, db.Fresh(t))
			storage := kind.must(t, handle)
			p := newParty(t)
			line.lose(f)
			a := p.join("a", storage, quickLease)
			waitFor(t, 10*time.Second, "a leads", a.IsLeader)
			require.True(t, line.lost())
			term, _ := a.Term()
			r, err := storage.Get(t.Context())
			require.NoError(t, err)
			require.Equal(t, "a", r.LeaderID)
			require.Equal(t, r.Term, term)
			require.False(t, r.Unguarded)
			if f.stored {
				require.Greater(t, term, uint64(1), "the reign that was not acknowledged was not begun")
			}

			line.lose(f)
			_ = a.ResignLeader(t.Context(), time.Hour)
			require.True(t, line.lost())
			waitFor(t, 10*time.Second, "nobody leads", func() bool {
				r, err := storage.Get(t.Context())
				return err == nil && r.LeaderID == ""
			})
			require.ErrorIs(t, guarded(t.Context(), storage, "a", func(*sql.Tx) error { return nil }), election.ErrNotLeader)
			p.stopAll()
			p.log.requireSound(t)
		}
	})
}

// A network that goes silent at the end of a guarded transaction does not hold
// its caller much longer than the guard timeout says.
func TestGuardEndsOnASilentNetwork(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		for _, end := range []struct {
			name string
			fn   func(*wire, *dbtest.Proxy) error
			want error
		}{
			{"COMMIT", func(line *wire, _ *dbtest.Proxy) error { line.lose(fate{silent: true}); return nil }, election.ErrOutcomeUnknown},
			{"COMMIT stored", func(line *wire, _ *dbtest.Proxy) error { line.lose(fate{stored: true, silent: true}); return nil }, election.ErrOutcomeUnknown},
			{"before COMMIT", func(_ *wire, proxy *dbtest.Proxy) error { proxy.Swallow(); return nil }, context.DeadlineExceeded},
			{"ROLLBACK", func(_ *wire, proxy *dbtest.Proxy) error { proxy.Swallow(); return boom }, boom},
		} {
			t.Run(end.name, func(t *testing.T) {
				t.Parallel()
				behind, proxy := db.Fresh(t).Behind(t)
				handle, line := openWire(t, behind)
				t.Cleanup(proxy.Cut)
				s := openSQL(t, handle)
				mustLead(t, s, "a")
				result := make(chan error, 1)
				go func() {
					result <- guarded(t.Context(), withGuardTimeout(s, time.Second), "a", func(tx *sql.Tx) error {
						return end.fn(line, proxy)
					})
				}()
				patience := time.NewTimer(6 * time.Second)
				defer patience.Stop()
				select {
				case err := <-result:
					require.ErrorIs(t, err, end.want)
				case <-patience.C:
					proxy.Cut() // or it would never return
					line.cut()
					require.Fail(t, fmt.Sprint("TxnWithLeaderLock did not return; once the connection was cut it did: ", <-result))
				}
			})
		}
	})
}

// Wherever in its end the network goes silent, a guarded transaction gets over it.
func TestGuardEndsOnANetworkThatGoesSilent(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		for packets := range 4 {
			for _, fails := range []error{nil, boom} {
				t.Run(fmt.Sprintf("packets=%d/fn=%v", packets, fails), func(t *testing.T) {
					t.Parallel()
					handle, line := openWire(t, db.Fresh(t))
					s := openSQL(t, handle)
					mustLead(t, s, "a")
					result := make(chan error, 1)
					go func() {
						result <- guarded(t.Context(), withGuardTimeout(s, 500*time.Millisecond), "a", func(tx *sql.Tx) error {
							line.silence(packets)
							return fails
						})
					}()
					select {
					case err := <-result:
						if fails != nil {
							require.ErrorIs(t, err, fails)
						} else if err != nil {
							require.True(t, errors.Is(err, context.DeadlineExceeded) || errors.Is(err, election.ErrOutcomeUnknown), "%v", err)
						}
					case <-time.After(6 * time.Second):
						line.cut() // or it would never return
						require.Fail(t, fmt.Sprint("TxnWithLeaderLock did not return; once the connection was cut it did: ", <-result))
					}
				})
			}
		}
	})
}

// A leader whose network falls silent at a COMMIT has returned from its callback before
// another one starts, also where RenewDeadline and LeaseDuration are close: its
// storage gives the COMMIT up in time.
func TestCallbackReturnsFromASilentCommit(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		fresh := db.Fresh(t)
		handle, line := openWire(t, fresh)
		storage, p := openSQL(t, handle), newParty(t)
		narrow := func(c *election.Config) {
			c.LeaseDuration, c.RenewDeadline, c.RenewInterval = 3*time.Second, 2*time.Second, 250*time.Millisecond
		}
		var again atomic.Bool
		leads, outcome := make(chan bool, 1), make(chan error, 1)
		p.join("a", storage, narrow, func(c *election.Config) {
			c.LeaderCallback = func(ctx context.Context) error {
				defer p.log.enter(ctx, "a")()
				if again.Swap(true) {
					return nil // b shall have its turn
				}
				line.lose(fate{stored: true, silent: true})
				leads <- true
				outcome <- guarded(ctx, storage, "a", func(*sql.Tx) error { return nil })
				return nil
			}
		})
		<-leads
		b := p.join("b", openSQL(t, fresh.Open(t)), narrow)
		waitFor(t, 20*time.Second, "b leads", b.IsLeader)
		p.log.requireSound(t)
		require.ErrorIs(t, <-outcome, election.ErrOutcomeUnknown)
		line.cut()
	})
}

// A COMMIT that the server refuses is no unknown outcome: nothing was committed.
func TestCommitThatTheServerRefuses(t *testing.T) {
	t.Parallel()
	eachServerStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		if db.Engine != "postgres" {
			t.Skip("nothing is checked at COMMIT there")
		}
		t.Run("constraint", func(t *testing.T) {
			w := newGuardWorld(t, db.Fresh(t), kind)
			dbtest.Exec(t, w.otherDB, "CREATE TABLE late (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
			err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
				_, err := tx.Exec("INSERT INTO late VALUES (1), (1)")
				return errors.Join(err, write(tx, "undone"))
			})
			require.ErrorContains(t, err, "23505")
			assert.NotErrorIs(t, err, election.ErrOutcomeUnknown)
			assert.False(t, election.IsRetryable(err))
			assert.Empty(t, w.entries(t))
			requireUsable(t, w)
		})
		t.Run("serialization", func(t *testing.T) {
			fresh := withSettings(t, db.Fresh(t), nil, map[string]string{"default_transaction_isolation": "serializable"})
			w := newGuardWorld(t, fresh, kind)
			sum := func(tx *sql.Tx) (n int, err error) { return n, tx.QueryRow("SELECT count(*) FROM log").Scan(&n) }
			err := guarded(t.Context(), w.a, "a", func(tx *sql.Tx) error {
				_, err := sum(tx)
				require.NoError(t, err)
				other, err := w.otherDB.Begin() // a write skew: each reads what the other writes
				require.NoError(t, err)
				_, err = sum(other)
				require.NoError(t, err)
				require.NoError(t, write(other, "other"))
				require.NoError(t, write(tx, "undone"))
				return other.Commit()
			})
			require.ErrorContains(t, err, "40001")
			assert.NotErrorIs(t, err, election.ErrOutcomeUnknown)
			assert.True(t, election.IsRetryable(err))
			assert.Equal(t, []string{"other"}, w.entries(t))
			requireUsable(t, w)
		})
	})
}

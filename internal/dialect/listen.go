package dialect

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"math/rand/v2"
	"time"
)

// Subject is a row that is watched.
type Subject struct {
	Table string // quoted
	Name  string // as in Claim
	// Where selects the row. It has question marks for Args.
	Where string
	Args  []any
	// HolderColumn and NumberColumn hold the parts of a Holding.
	HolderColumn, NumberColumn string
}

// Key tells the subject from all others of its database, in 32 characters that need no quoting.
func (s Subject) Key() string { return digest(s.Table, s.Name) }

func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		_, _ = h.Write([]byte(part + "\x00")) // no part holds a NUL
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Holding is what a watched row says: its holder, and a number that each new holder raises. A
// missing row has the zero Holding.
type Holding struct {
	Holder string
	Number int64
}

// Watched is a subject and its holding as last seen.
type Watched struct {
	Subject
	Holding
}

// A Listener waits for changes of holders on a connection of its own. It serves one goroutine at a
// time.
type Listener interface {
	// Wait returns the Key of a subject when it hears of a change there. It returns "" when the
	// caller shall look at all subjects: because one of watched may have changed, because nudge has
	// received, or now and then for no reason.
	Wait(ctx context.Context, watched []Watched, nudge <-chan struct{}) (heard string, err error)
	// Close ends the session. None of its state returns to the pool.
	Close()
}

// Listen makes conn listen for changes of holders. Conn is a connection of db. If Listen returns an
// error, the caller closes conn.
func (d *Dialect) Listen(ctx context.Context, db *sql.DB, conn *sql.Conn) (Listener, error) {
	return d.listen(ctx, db, conn)
}

// HoldingLock is a pair of statements: Take, which returns 1 when it succeeds, and
// Free.
type HoldingLock struct{ Take, Free string }

// HoldingLock is the lock by which listeners notice the end of a holding: a session of the holder's
// process keeps it until then. If listeners need no lock, it is the zero HoldingLock.
func (d *Dialect) HoldingLock(s Subject, h Holding) HoldingLock {
	if d.holdingLock == nil || h.Holder == "" {
		return HoldingLock{}
	}
	return d.holdingLock(s, h)
}

// Discard closes conn instead of giving it back to the pool.
func Discard(conn *sql.Conn) { _ = restore(conn, true) }

// deadAfter is how late an answer may be before a listener takes its connection for dead.
const deadAfter = 5 * time.Second

// pollOf is the time between two looks at watched, if d is that time for one subject. A look at
// many subjects costs more, so it is rarer.
func pollOf(d time.Duration, watched []Watched) time.Duration {
	const few = 10
	return d * time.Duration(max(1, len(watched)/few))
}

// pause waits for about d. Each wait is a little longer or shorter, so that listeners do not march
// in step. A nudge ends the wait.
func pause(ctx context.Context, d time.Duration, nudge <-chan struct{}) (nudged bool, err error) {
	timer := time.NewTimer(d*3/4 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-nudge:
		return true, nil
	case <-timer.C:
		return false, nil
	}
}

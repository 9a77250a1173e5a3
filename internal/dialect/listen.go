package dialect

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"math/rand/v2"
	"time"
)

// Subject is a row that somebody watches.
type Subject struct {
	Table string // quoted
	Name  string // as in Claim
	// Where, with question marks for Args, selects the row.
	Where string
	Args  []any
	// HolderColumn and NumberColumn hold the parts of a Holding.
	HolderColumn, NumberColumn string
}

// Key tells the subject from every other one of its database, in 32 characters
// that need no quoting.
func (s Subject) Key() string { return digest(s.Table, s.Name) }

func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		_, _ = h.Write([]byte(part + "\x00")) // no part holds a NUL
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Holding is what a watched row says: who holds it, and in which number, which each holder raises. The
// zero Holding is also that of a missing row.
type Holding struct {
	Holder string
	Number int64
}

// Watched is a subject and what was last seen there.
type Watched struct {
	Subject
	Holding
}

// A Listener waits for changes of holders on a connection of its own. For one
// goroutine at a time.
type Listener interface {
	// Wait returns when a change is heard of, with the Key of its subject, or with
	// "" when it is time to look at all subjects: when one of watched may have
	// changed, when nudge receives, and now and then for no reason.
	Wait(ctx context.Context, watched []Watched, nudge <-chan struct{}) (heard string, err error)
	// Close ends the session. None of its state returns to the pool.
	Close()
}

// Listen makes conn, of db's pool, listen for changes of holders. When it returns
// an error the caller closes conn.
func (d *Dialect) Listen(ctx context.Context, db *sql.DB, conn *sql.Conn) (Listener, error) {
	return d.listen(ctx, db, conn)
}

// HoldingLock is a pair of statements: Take, which returns 1 when it succeeds, and
// Free.
type HoldingLock struct{ Take, Free string }

// HoldingLock is the lock by which listeners notice the end of a holding, if a
// session of the holder's process has it until then; the zero HoldingLock where
// they need none.
func (d *Dialect) HoldingLock(s Subject, h Holding) HoldingLock {
	if d.holdingLock == nil || h.Holder == "" {
		return HoldingLock{}
	}
	return d.holdingLock(s, h)
}

// Discard closes conn instead of giving it back to the pool.
func Discard(conn *sql.Conn) { _ = restore(conn, true) }

// deadAfter is how much later than expected an answer may come before a listener
// takes its connection for dead.
const deadAfter = 5 * time.Second

// pollOf is how often to look where a look at one subject is worth taking every d: a
// look at many costs more.
func pollOf(d time.Duration, watched []Watched) time.Duration {
	const few = 10
	return d * time.Duration(max(1, len(watched)/few))
}

// pause waits about as long as d, each time a little more or less, so that
// listeners do not march in step. A nudge ends it.
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

package doctor

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/sqlelect/election"
)

// errUndo is the error by which a guarded function has its transaction rolled back.
var errUndo = errors.New("roll it back")

// guarded commits one guarded transaction and rolls another one back. What the second one wrote
// must not be seen, neither through the other handle while its transaction is open nor after the
// rollback.
func (e *examination) guarded(ctx context.Context) finding {
	name, a, _ := e.site.in("guarded transaction")
	if _, err := lead(ctx, a, anna); err != nil {
		return broken("acquire the leadership", err)
	}
	kept, undone := e.site.entryOf(name, "kept"), e.site.entryOf(name, "undone")
	write := func(entry string, then func() error) error {
		return a.TxnWithLeaderLock(ctx, anna, func(tx *sql.Tx) error {
			if err := e.site.entry(ctx, tx, entry); err != nil {
				return err
			}
			return then()
		})
	}
	if err := write(kept, func() error { return nil }); err != nil {
		return broken("commit", err)
	}
	seen := 0
	err := write(undone, func() error {
		brief, cancel := context.WithTimeout(ctx, halfSecond)
		defer cancel()
		// If the open transaction has the database to itself, this read fails, which is as good.
		seen, _ = e.site.entries(brief, e.Other, undone)
		return errUndo
	})
	if !errors.Is(err, errUndo) {
		return broken("roll back", err)
	}
	left, err := e.site.entries(ctx, e.db, undone)
	switch {
	case err != nil:
		return broken("look", err)
	case seen+left > 0:
		return failure("the other connection saw %d rows of an open transaction; %d rows of one that was rolled back are there", seen, left).because(
			"What a guarded transaction wrote is there although it was refused (G3).",
			"Look for a table without transactions, or for what sends statements to different sessions: a proxy, a pooler, a wrapped driver.")
	}
	return ok("nothing was seen before its commit, nor after a rollback")
}

const halfSecond = 500 * time.Millisecond

// under runs body inside a guarded transaction of anna, who leads, through a. The transaction
// writes an entry first, as a leader's work does. under returns how the transaction ended.
func (e *examination) under(ctx context.Context, name string, a *election.SQLStorage, body func(*sql.Tx)) error {
	entry := e.site.entryOf(name, "entry")
	// Long enough to see a change of leader that waits too long.
	const guardTimeout = 4 * time.Second
	return a.WithGuardTimeout(guardTimeout).TxnWithLeaderLock(ctx, anna, func(tx *sql.Tx) error {
		if err := e.site.entry(ctx, tx, entry); err != nil {
			return err
		}
		body(tx)
		return nil
	})
}

// errWaiting means that a change of leader had not ended when meet stopped waiting for it.
var errWaiting = errors.New("it waited on")

// meet tries to change the leader while a guarded transaction is open. The ctx of the change ends
// after half a second; meet waits for the change for at most patience. changed is how the change
// ended, or errWaiting if it did not end in that time. took is how long meet waited. committed is
// how the guarded transaction ended.
//
// The change runs on a goroutine of its own: it may wait for the guarded transaction, which must
// not wait for it without end.
func (e *examination) meet(ctx context.Context, name string, a, b *election.SQLStorage, patience time.Duration) (
	changed error, took time.Duration, committed error,
) {
	ended := make(chan error, 1)
	// begun stays false if the guarded transaction was refused at its start. Then no change was
	// tried.
	begun := false
	committed = e.under(ctx, name, a, func(*sql.Tx) {
		begun = true
		brief, cancel := context.WithTimeout(ctx, halfSecond)
		start := time.Now()
		go func() {
			defer cancel()
			_, err := lead(brief, b, bert)
			ended <- err
		}()
		select {
		case changed = <-ended:
			// The receive at the end of meet finds a value also if the change has ended.
			ended <- nil
		case <-time.After(patience):
			changed = errWaiting
		}
		took = time.Since(start)
	})
	if begun {
		<-ended // at the latest now, when nothing is in its way
	}
	return changed, took, committed
}

// guardLock checks that a guarded transaction and a change of leader do not both pass: one of the
// two waits or fails. On most engines the change waits for the transaction; on a Galera cluster it
// may end the transaction. When the transaction is over, the change must succeed, or the election
// stands still after each guarded transaction.
func (e *examination) guardLock(ctx context.Context) finding {
	name, a, b := e.site.in("lock of the guard")
	if _, err := lead(ctx, a, anna); err != nil {
		return broken("acquire the leadership", err)
	}
	changed, _, committed := e.meet(ctx, name, a, b, 2*halfSecond)
	switch {
	case changed == nil && committed == nil:
		return failure("the leader changed, and then the former leader's transaction was committed").because(
			"The guard does not guard: what a former leader writes lands in the next one's term (G3).",
			"Look for a table without row locks, for several primaries, or for what ends transactions early or sends statements to different sessions: a proxy, a pooler, a wrapped driver.")
	case changed != nil && committed != nil:
		return broken("commit a guarded transaction", committed)
	}
	start := time.Now()
	if _, err := lead(ctx, b, bert); err != nil {
		return broken("change the leader after the guarded transaction", err)
	}
	if changed == nil {
		return ok("the change passed, and the guarded transaction's commit was refused")
	}
	return ok("the change waited in vain; %v after the commit it succeeded", time.Since(start).Round(time.Microsecond))
}

// boundedWait measures how long a change of leader that waits goes on after its ctx has ended.
// Members give up calls that ignore their ctx, so a long wait breaks no promise of safety, and is a
// warning. Until it is over, the call keeps its connection.
func (e *examination) boundedWait(ctx context.Context) finding {
	name, a, b := e.site.in("bounded waits")
	if _, err := lead(ctx, a, anna); err != nil {
		return broken("acquire the leadership", err)
	}
	// meet waits for longer than is tolerable, and for less than the guard timeout of under: at
	// that timeout the transaction ends, and nothing keeps the change waiting.
	const tolerable = time.Second
	changed, took, committed := e.meet(ctx, name, a, b, halfSecond+2*tolerable)
	late := (took - halfSecond).Round(time.Millisecond)
	switch {
	case errors.Is(changed, errWaiting):
		return deaf("it still waited %v after its time", late)
	case late > tolerable:
		return deaf("it ended %v after its time", late)
	case changed == nil: // then the transaction was refused, or the lock is no lock
		return ok("it did not have to wait")
	case committed != nil:
		return broken("commit a guarded transaction", committed)
	}
	return ok("it gave up %v after its time", max(0, late))
}

func deaf(format string, args ...any) finding {
	return warning(format, args...).because(
		"A member that waits for a lock does not notice when it has to give up: renewals and take-overs come late.",
		"Look for what makes the driver deaf to the end of a ctx: a busy timeout, a proxy, a pooler, a wrapped driver.")
}

// hung asks inside a guarded transaction whether the server would end it if its client stopped: by
// the bound that the library has set, or by the bound that the session had before. Without a bound
// one frozen leader can hold up the election for as long as its connection lives.
func (e *examination) hung(ctx context.Context) finding {
	condition := e.dialect.Examination.Hung
	if condition.Query == "" {
		return skipped("there is no server that could end one")
	}
	name, a, _ := e.site.in("hung transactions")
	if _, err := lead(ctx, a, anna); err != nil {
		return broken("acquire the leadership", err)
	}
	var f finding
	if err := e.under(ctx, name, a, func(tx *sql.Tx) { f = judge(ctx, tx, condition) }); err != nil {
		return broken("commit a guarded transaction", err)
	}
	return f
}

// pastTerm makes one member the leader twice. A guarded transaction in the first term must be
// refused, and one in the second term must commit. Both reigns have one leader ID, so the guard can
// tell them apart by the term alone.
func (e *examination) pastTerm(ctx context.Context) finding {
	name, a, b := e.site.in("past term")
	first, err := lead(ctx, a, anna)
	if err != nil {
		return broken("acquire the leadership", err)
	}
	second, err := lead(ctx, b, anna)
	if err != nil {
		return broken("acquire the leadership again", err)
	}
	in := func(term uint64) error {
		reign := election.Leadership{Leader: &election.Member{ID: anna}, Term: term}
		return e.under(election.ContextWithLeadership(ctx, reign), name, a, func(*sql.Tx) {})
	}
	switch err := in(first); {
	case err == nil:
		return failure("it was committed in term %d, though term %d had begun", first, second).because(
			"A former leader can write in a later term (G3).",
			"Look for what rewrites statements, or answers them in the server's place: a proxy, a wrapped driver.")
	case !errors.Is(err, election.ErrNotLeader):
		return broken("refuse a past term", err)
	}
	if err := in(second); err != nil {
		return broken("commit in the present term", err)
	}
	return ok("refused in term %d, committed in term %d", first, second)
}

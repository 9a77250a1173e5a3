//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"gorm.io/gorm"

	"github.com/sqlelect/election"
)

// guard runs fn in a guarded transaction.
type guard func(ctx context.Context, id string, fn func(tx querier) error) error

func guardOfSQL(s *election.SQLStorage) guard {
	return func(ctx context.Context, id string, fn func(querier) error) error {
		return s.TxnWithLeaderLock(ctx, id, func(tx *sql.Tx) error { return fn(tx) })
	}
}

func guardOfORM(s *election.ORMStorage) guard {
	return func(ctx context.Context, id string, fn func(querier) error) error {
		return s.TxnWithLeaderLock(ctx, id, func(tx *gorm.DB) error { return fn(tx.Statement.ConnPool) })
	}
}

// noGuard is what a program without the guard does: it takes its own word for it
// that it leads. The verdict must find that out.
func noGuard(db *sql.DB) guard {
	return func(ctx context.Context, _ string, fn func(querier) error) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // without effect after the commit
		if err := fn(tx); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("%w: %w", election.ErrOutcomeUnknown, err)
		}
		return nil
	}
}

const (
	// writers append at the same time, in each reign: on SQLite fewer, so that a process
	// is not always stopped within a write.
	serverWriters, fileWriters = 4, 2
	// rest is how long a writer pauses at most after an attempt.
	rest = 60 * time.Millisecond
	// late is how long a writer goes on after its reign, past any lease.
	late = leaseDuration + 500*time.Millisecond
	// lateRest lies between the attempts of such a writer.
	lateRest = 150 * time.Millisecond
)

// write appends while ctx lasts, and then goes on as if nothing had happened:
// without its cancellation the ctx still carries the term. That is what the guard
// is for.
func (m *member) write(ctx context.Context) {
	for ctx.Err() == nil {
		attempt := ctx
		if rand.IntN(2) == 0 {
			attempt = context.WithoutCancel(ctx) // may be under way when the reign ends
		}
		m.attempt(attempt)
		wait(ctx, rand.N(rest))
	}
	for until := time.Now().Add(late); time.Now().Before(until); {
		m.attempt(context.WithoutCancel(ctx))
		wait(context.Background(), rand.N(lateRest))
	}
}

// attempt appends one entry and writes down what came of it. The number is taken
// last: a change of leader that the guard should hold up must not have to wait for
// the ledger instead.
func (m *member) attempt(ctx context.Context) {
	reign, _ := election.LeadershipFromContext(ctx)
	l := line{What: began, Term: reign.Term, Token: fmt.Sprintf("%s/%d", m.life, m.attempts.Add(1))}
	m.note(l)
	err := m.guard(ctx, m.ID, func(tx querier) error {
		wait(ctx, m.work())
		return m.ledger.append(ctx, tx, entry{Term: l.Term, Member: m.ID, Life: m.life.number, Token: l.Token})
	})
	switch {
	case err == nil:
		l.What = committed
	case errors.Is(err, election.ErrOutcomeUnknown):
		l.What = unknown
	case errors.Is(err, election.ErrNotLeader):
		l.What = refused
	default:
		l.What = failed
	}
	if err != nil {
		l.Err = err.Error()
	}
	m.note(l)
}

// work is for how long a guarded transaction does something else: mostly next to
// nothing, now and then long enough to be under way at a change of leader. On SQLite
// it holds up the renewals, and has to be shorter than those allow.
func (m *member) work() time.Duration {
	most, seldom, longest := 4*time.Millisecond, 80*time.Millisecond, 900*time.Millisecond
	if !m.Server {
		most, seldom, longest = 2*time.Millisecond, 20*time.Millisecond, 80*time.Millisecond
	}
	switch dice := rand.IntN(20); {
	case dice < 1:
		return rand.N(longest)
	case dice < 3:
		return rand.N(seldom)
	}
	return rand.N(most)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

package election_test

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// cutOff is a handle on memory that fails while on is set.
func cutOff(memory *storagetest.Memory, on *atomic.Bool) election.Storage {
	return cut{memory.Handle(), on}
}

type cut struct {
	*storagetest.Memory
	on *atomic.Bool
}

func (c cut) Get(ctx context.Context) (*election.Record, error) {
	if c.on.Load() {
		return nil, errors.New("cut off")
	}
	return c.Memory.Get(ctx)
}

// hooked is a Storage with something around its calls.
type hooked struct {
	election.Storage
	get    func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error)
	update func(ctx context.Context, r *election.Record, changed bool, next func(context.Context) error) error
}

func (h *hooked) Get(ctx context.Context) (*election.Record, error) {
	if h.get == nil {
		return h.Storage.Get(ctx)
	}
	return h.get(ctx, h.Storage.Get)
}

func (h *hooked) Update(ctx context.Context, r *election.Record, changed bool) error {
	next := func(ctx context.Context) error { return h.Storage.Update(ctx, r, changed) }
	if h.update == nil {
		return next(ctx)
	}
	return h.update(ctx, r, changed, next)
}

// unwatched is s without its wake-ups: on virtual time, whose clock stands still
// while a server is waited for, and whose days would be spent looking every few ms.
func unwatched(s election.Storage) election.Storage {
	switch s := s.(type) {
	case *election.SQLStorage:
		return sqlUnwatched{s}
	case *election.ORMStorage:
		return ormUnwatched{s}
	}
	return s
}

type sqlUnwatched struct{ *election.SQLStorage }

func (sqlUnwatched) Watch() {} // hides the one with parameters

type ormUnwatched struct{ *election.ORMStorage }

func (ormUnwatched) Watch() {}

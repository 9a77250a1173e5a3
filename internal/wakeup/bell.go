// Package wakeup tells the processes that watch a row when its holder has changed. A wake-up is a
// hint, never more: a process that watches also reads the row now and then without it.
//
//	Bell            the row; it is rung after a change, and watched
//	hub             one per handle and process: the one connection that listens, for all its bells
//	holdingLocks    one more connection, with the locks that other processes' listeners wait for
//	pool            the program's connections; it gets them back when it has too few
package wakeup

import (
	"context"
	"database/sql"
	"sync"

	"github.com/sqlelect/election/internal/dialect"
)

// Bell tells of changes of one row's holder, such as the leader in a leader row. It is a hint: it
// may ring without a change, and it may not ring for a change.
type Bell struct {
	DB       *sql.DB
	Dialect  *dialect.Dialect
	Identity string // of the database
	Subject  dialect.Subject
}

// Ring says that a change of holder is committed, and that the row now says holding. It does not
// block: if a statement is needed, the hub of DB runs it. It does nothing on an engine whose
// transactions notify by themselves.
func (b Bell) Ring(holding dialect.Holding) {
	if b.Dialect.NotifiesInTransaction {
		return
	}
	hubs.Lock()
	defer hubs.Unlock()
	for db, h := range hubs.of {
		// Databases without a name share an identity. Of these, only databases of the same handle
		// are known to be the same.
		if db == b.DB || h.identity == b.Identity && b.Identity != dialect.MemoryIdentity("") {
			h.hear(b.Subject.Key(), holding)
		}
	}
	if h := hubs.of[b.DB]; h != nil {
		h.locks.want(b.Subject.Key(), b.Dialect.HoldingLock(b.Subject, holding))
	}
}

// Watch calls changed when it has begun to watch, and at each change of holder, until ctx ends or
// the connection breaks. It blocks; changed must not block. own is what this process holds, if
// anything: the hub keeps its lock, so that listeners of other processes notice the end of the
// holding.
func (b Bell) Watch(ctx context.Context, own dialect.Holding, changed func()) error {
	if !(pool{b.DB}).fits(1) {
		return errSmallPool
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &watcher{key: b.Subject.Key(), changed: changed}
	h := b.join(w)
	if lock := b.Dialect.HoldingLock(b.Subject, own); lock != (dialect.HoldingLock{}) {
		h.locks.want(w.key, lock)
	}
	select {
	case <-ctx.Done():
	case <-h.done:
	}
	// The last watcher waits for the hub's end: after it the hub uses no connection any more.
	if isLast := h.leave(w); isLast {
		<-h.done
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.err
}

// hubs holds the hubs of this process: one for each handle through which something watches. This
// state cannot belong to a storage, because several storages share a handle, and several handles a
// file.
//
// A hub may be locked while hubs is, and never the other way round.
var hubs = struct {
	sync.Mutex
	of map[*sql.DB]*hub
}{of: map[*sql.DB]*hub{}}

// join makes w one of the watchers of the hub of b's handle, and starts that hub for the first one.
func (b Bell) join(w *watcher) *hub {
	hubs.Lock()
	defer hubs.Unlock()
	h := hubs.of[b.DB]
	if h == nil {
		h = newHub(b)
		hubs.of[b.DB] = h
		// The ctx is none of w's: the hub serves other watchers after w.
		ctx, cancel := context.WithCancel(context.Background())
		h.cancel = cancel
		go h.serve(ctx)
	}
	h.add(w, b.Subject)
	return h
}

// leave takes w off, and reports whether it was the last one: then the hub ends.
func (h *hub) leave(w *watcher) (isLast bool) {
	hubs.Lock()
	defer hubs.Unlock()
	if isLast = h.remove(w); isLast {
		h.retire()
		h.cancel()
	}
	return isLast
}

// retire lets the next watcher start a new hub. The caller holds the lock of hubs.
func (h *hub) retire() {
	if hubs.of[h.pool.db] == h {
		delete(hubs.of, h.pool.db)
	}
}

// serve runs h until it is cancelled or fails. h is retired before its watchers hear of the end, so
// a watcher that comes again gets a new hub.
func (h *hub) serve(ctx context.Context) {
	err := h.run(ctx)
	hubs.Lock()
	defer hubs.Unlock()
	h.retire()
	h.cancel()
	h.err = err
	close(h.done)
}

package sqldb

import (
	"context"
	"database/sql"
	"sync"

	"github.com/sqlelect/election/internal/dialect"
)

// Bell tells of changes of one leader row. It is a hint: it may ring without a
// change, and a change without its ringing.
type Bell struct {
	DB       *sql.DB
	Dialect  *dialect.Dialect
	Identity string // of the database
	Subject  dialect.Subject
}

// Ring says that a change of leader is committed, and to what. It waits for
// nothing: what takes a statement is done by DB's hub.
func (b Bell) Ring(reign dialect.Reign) {
	if b.Dialect.RingsItself {
		return
	}
	hubs.Lock()
	defer hubs.Unlock()
	for db, h := range hubs.of {
		// Databases without a name share an identity; of those only the same handle
		// is known to be the same database.
		if db == b.DB || h.identity == b.Identity && b.Identity != dialect.MemoryIdentity("") {
			h.hear(b.Subject.Key(), reign)
		}
	}
	if h := hubs.of[b.DB]; h != nil {
		h.locks.want(b.Subject.Key(), b.Dialect.ReignLock(b.Subject, reign))
	}
}

// Watch calls changed when it has begun to watch and at each change of leader,
// until ctx ends or the connection breaks. It blocks. Changed must not block.
//
// Led is the reign that this process leads, if any: the hub keeps its lock.
func (b Bell) Watch(ctx context.Context, led dialect.Reign, changed func()) error {
	if !(pool{b.DB}).fits(1) {
		return errSmallPool
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &watcher{key: b.Subject.Key(), changed: changed}
	h := b.join(w)
	if lock := b.Dialect.ReignLock(b.Subject, led); lock != (dialect.ReignLock{}) {
		h.locks.want(w.key, lock)
	}
	select {
	case <-ctx.Done():
	case <-h.done:
	}
	if isLast := h.leave(w); isLast {
		<-h.done
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.err
}

// hubs are those of this process: at most one for each handle, while somebody
// watches through it. It is the one piece of state that cannot belong to a
// storage, since several share a handle, and files are shared by handles.
var hubs = struct {
	sync.Mutex
	of map[*sql.DB]*hub
}{of: map[*sql.DB]*hub{}}

// join makes w one of the watchers of the hub of b's handle, and starts that hub
// for the first one.
func (b Bell) join(w *watcher) *hub {
	hubs.Lock()
	defer hubs.Unlock()
	h := hubs.of[b.DB]
	if h == nil {
		h = newHub(b)
		hubs.of[b.DB] = h
		ctx, cancel := context.WithCancel(context.Background()) // it serves others after w
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

// retire lets the next watcher start a new hub. The caller holds the lock.
func (h *hub) retire() {
	if hubs.of[h.pool.db] == h {
		delete(hubs.of, h.pool.db)
	}
}

// serve runs h until it is cancelled or fails.
func (h *hub) serve(ctx context.Context) {
	err := h.run(ctx)
	hubs.Lock()
	defer hubs.Unlock()
	h.retire()
	h.cancel()
	h.err = err
	close(h.done)
}

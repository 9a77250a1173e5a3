package wakeup

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// hub is what all watchers on one handle share: one connection that listens, and one more on
// engines whose holders have locks.
type hub struct {
	pool     pool
	dialect  *dialect.Dialect
	identity string
	locks    *holdingLocks
	nudge    chan struct{} // has room for one: read the rows now
	cancel   context.CancelFunc
	done     chan struct{}
	err      error // why it ended; not to be read before done is closed

	mu   sync.Mutex
	rows map[string]*watchedRow // by the subject's key
}

// watchedRow is a row, what was last seen there, and its watchers.
type watchedRow struct {
	dialect.Watched
	seen     bool // the row was read; until then its watchers are not called
	told     bool // a change was heard of, and the row was not read since
	watchers map[*watcher]bool
}

type watcher struct {
	key     string
	changed func()
}

func newHub(b Bell) *hub {
	return &hub{
		pool: pool{b.DB}, dialect: b.Dialect, identity: b.Identity, locks: newHoldingLocks(b.DB),
		nudge: make(chan struct{}, 1), done: make(chan struct{}), rows: map[string]*watchedRow{},
	}
}

// look makes the hub read the rows soon.
func (h *hub) look() {
	select {
	case h.nudge <- struct{}{}:
	default: // it is going to
	}
}

// add lets w watch the row of subject. If the row was read before, w is called at once: Watch calls
// changed when it has begun to watch. Otherwise the first read calls it.
func (h *hub) add(w *watcher, subject dialect.Subject) {
	h.mu.Lock()
	defer h.mu.Unlock()
	row := h.rows[w.key]
	if row == nil {
		row = &watchedRow{Watched: dialect.Watched{Subject: subject}, watchers: map[*watcher]bool{}}
		h.rows[w.key] = row
		h.look()
	}
	row.watchers[w] = true
	if row.seen {
		w.changed()
	}
}

// remove takes w off, and reports whether the hub has no watcher left. Afterwards w is not called.
func (h *hub) remove(w *watcher) (isLast bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	row := h.rows[w.key]
	delete(row.watchers, w)
	if len(row.watchers) == 0 {
		delete(h.rows, w.key)
	}
	return len(h.rows) == 0
}

// ring calls the watchers of the subject that was heard of. It does not if the row has another
// holding than when the listener began to wait: then this process has told the watchers of the
// change already.
func (h *hub) ring(heard string, watched []dialect.Watched) {
	h.mu.Lock()
	defer h.mu.Unlock()
	row := h.rows[heard]
	if row == nil || slices.ContainsFunc(watched, func(w dialect.Watched) bool { return w.Key() == heard && w.Holding != row.Holding }) {
		return
	}
	row.told = true
	row.ring()
}

func (r *watchedRow) ring() {
	for w := range r.watchers {
		w.changed()
	}
}

// watched lists the rows to read. unseen reports whether one of them was never read.
func (h *hub) watched() (all []dialect.Watched, unseen bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, row := range h.rows {
		all = append(all, row.Watched)
		unseen = unseen || !row.seen
	}
	return all, unseen
}

// run listens until ctx ends, the connection breaks or the pool needs the connection. It does not
// reconnect: the watchers poll meanwhile, and decide when to watch again.
func (h *hub) run(ctx context.Context) error {
	conn, listener, err := h.listen(ctx)
	if err != nil {
		return err
	}
	defer listener.Close()
	var beside sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer beside.Wait()
	defer cancel(nil)
	beside.Go(func() { h.locks.keep(ctx) })
	beside.Go(func() { cancel(h.pool.outgrown(ctx, 1)) })
	if err = h.tell(ctx, conn, listener); ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// tell rings for each change that listener hears of. A change that is heard of with its subject
// needs no read, because the watchers read what they need. The rows are read when the listener does
// not know which of them has changed, and when one was never read.
func (h *hub) tell(ctx context.Context, conn *sql.Conn, listener dialect.Listener) (err error) {
	for heard := ""; ; {
		select {
		case <-h.nudge: // the rows are looked at now
		default:
		}
		watched, unseen := h.watched()
		if heard == "" || unseen {
			if err := h.compare(ctx, conn, watched); err != nil {
				return fmt.Errorf("look for a change of leader: %w", err)
			}
			watched, _ = h.watched()
		}
		if heard, err = listener.Wait(ctx, watched, h.nudge); err != nil {
			return fmt.Errorf("wait for a change of leader: %w", err)
		}
		h.ring(heard, watched)
	}
}

// listenTimeout bounds how long it takes to begin to listen, a new connection included.
const listenTimeout = 10 * time.Second

func (h *hub) listen(ctx context.Context) (conn *sql.Conn, listener dialect.Listener, err error) {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	// Tried again if a lock is in the way: the watchers would come back only after a while.
	err = sqldb.Retry(ctx, func() error {
		return sqldb.RetryBadConn(h.pool.db, func() error {
			if conn, err = h.pool.spare(ctx); err != nil {
				return err
			}
			if listener, err = h.dialect.Listen(ctx, h.pool.db, conn); err != nil {
				_ = conn.Close() // fails if the connection was discarded
			}
			return err
		})
	})
	return conn, listener, err
}

// lookTimeout bounds one read of the rows. A read waits for no lock, so a connection that takes
// longer is dead, or as good as dead.
const lookTimeout = 5 * time.Second

// compare reads the rows, and rings for each row that is new or has changed. The listener may have
// woken for another reason, such as a renewal.
func (h *hub) compare(ctx context.Context, conn *sql.Conn, watched []dialect.Watched) error {
	const atOnce = 100 // servers limit how much one statement may unite
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for some := range slices.Chunk(watched, atOnce) {
		var holdings []dialect.Holding
		err := sqldb.Retry(ctx, func() (err error) {
			holdings, err = h.read(ctx, conn, some)
			return err
		})
		if err != nil {
			return err
		}
		for i, holding := range holdings {
			h.saw(some[i], holding)
		}
	}
	return nil
}

// saw takes in what a row holds, and rings if that is new. If this process has told of a change
// since was, the read may be older than the change: then the rows are read again.
func (h *hub) saw(was dialect.Watched, holding dialect.Holding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	row := h.rows[was.Key()]
	switch {
	case row == nil:
	case row.Holding != was.Holding:
		h.look()
	default:
		// The watchers were called for this release already. (A new number is an acquisition after
		// it: for that they are called again.)
		told := row.told && holding.Number == was.Number
		row.told = false
		row.take(holding, !told)
	}
}

// hear takes in a change of holder that this process has made.
func (h *hub) hear(key string, holding dialect.Holding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if row := h.rows[key]; row != nil {
		row.take(holding, true)
	}
}

func (r *watchedRow) take(holding dialect.Holding, rings bool) {
	if r.seen && r.Holding == holding {
		return
	}
	r.seen, r.Holding = true, holding
	if rings {
		r.ring()
	}
}

// read returns what each of the rows holds now, in one statement. A row that is missing adds
// nothing to the result, and so has the zero Holding.
func (h *hub) read(ctx context.Context, conn *sql.Conn, watched []dialect.Watched) ([]dialect.Holding, error) {
	parts := make([]string, len(watched))
	var args []any
	for i, w := range watched {
		parts[i] = "SELECT " + strconv.Itoa(i) + " AS place, COALESCE(" + w.HolderColumn + ", ''), " + w.NumberColumn + " FROM % WHERE " + w.Where
		args = append(args, w.Args...)
	}
	// The tables' names come last, because a name may contain a ? or a %.
	var query strings.Builder
	for i, part := range strings.Split(h.dialect.Rebind(strings.Join(parts, " UNION ALL ")), "%") {
		if i > 0 {
			query.WriteString(watched[i-1].Table)
		}
		query.WriteString(part)
	}
	rows, err := sqldb.Strings(ctx, conn, 3, query.String(), args...)
	if err != nil {
		return nil, err
	}
	holdings := make([]dialect.Holding, len(watched))
	for _, row := range rows {
		place, err := strconv.Atoi(row[0])
		if err != nil {
			return nil, err
		}
		holdings[place].Holder = row[1]
		if holdings[place].Number, err = strconv.ParseInt(row[2], 10, 64); err != nil {
			return nil, err
		}
	}
	return holdings, nil
}

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

// hub is what all watchers on one handle share: one listening connection, and one
// more where holders have locks.
type hub struct {
	pool     pool
	dialect  *dialect.Dialect
	identity string
	locks    *holdingLocks
	nudge    chan struct{} // holds one: look at the rows now
	cancel   context.CancelFunc
	done     chan struct{}
	err      error // why it ended; to be read when done is closed

	mu   sync.Mutex
	rows map[string]*watchedRow // by the subject's key
}

// watchedRow is a row, what was last seen there, and who wants to know.
type watchedRow struct {
	dialect.Watched
	seen     bool // at all: before, its watchers have not been called
	told     bool // of a change that was heard of and not looked at yet
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

// look makes the hub look at the rows, soon.
func (h *hub) look() {
	select {
	case h.nudge <- struct{}{}:
	default: // it will anyway
	}
}

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

// remove reports whether nobody is left. Afterwards w is not called any more.
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

// ring calls the watchers of the subject that was heard of, unless they know from this
// process what the listener waited for.
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

// watched lists what to look at, and whether anything was never looked at yet.
func (h *hub) watched() (all []dialect.Watched, unseen bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, row := range h.rows {
		all = append(all, row.Watched)
		unseen = unseen || !row.seen
	}
	return all, unseen
}

// run listens until ctx ends, the connection breaks or the pool needs it. It does not
// reconnect: its watchers poll meanwhile, and know when to come back.
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

// tell rings for what listener hears of.
func (h *hub) tell(ctx context.Context, conn *sql.Conn, listener dialect.Listener) (err error) {
	for heard := ""; ; {
		select {
		case <-h.nudge: // what it is about is looked at now
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
	// Again where a lock is in the way: the watchers come back only after a while.
	err = sqldb.Retry(ctx, func() error {
		return sqldb.OnLiveConn(h.pool.db, func() error {
			if conn, err = h.pool.spare(ctx); err != nil {
				return err
			}
			if listener, err = h.dialect.Listen(ctx, h.pool.db, conn); err != nil {
				_ = conn.Close() // fails for one that was discarded
			}
			return err
		})
	})
	return conn, listener, err
}

// lookTimeout bounds a look at the rows, which waits for nobody: a connection
// that takes longer is dead, or as good as that.
const lookTimeout = 5 * time.Second

// compare reads the rows and rings for those that are new or have changed: the
// listener may have woken for something else, a renewal perhaps.
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

// saw takes in what a row holds, and rings if that is new. If this process has told of
// a change after the read was sent, the read may be the older one: it looks again.
func (h *hub) saw(was dialect.Watched, holding dialect.Holding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	row := h.rows[was.Key()]
	switch {
	case row == nil:
	case row.Holding != was.Holding:
		h.look()
	default:
		told := row.told && holding.Number == was.Number // told of this release: not to be rung for again. (With a new number it is an acquisition that came after it.)
		row.told = false
		row.take(holding, !told)
	}
}

// hear takes in a change of holder by this process.
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

// read returns what each of the rows holds now, in one statement.
func (h *hub) read(ctx context.Context, conn *sql.Conn, watched []dialect.Watched) ([]dialect.Holding, error) {
	parts := make([]string, len(watched))
	var args []any
	for i, w := range watched {
		parts[i] = "SELECT " + strconv.Itoa(i) + " AS place, COALESCE(" + w.HolderColumn + ", ''), " + w.NumberColumn + " FROM % WHERE " + w.Where
		args = append(args, w.Args...)
	}
	// The tables last: their names may hold whatever stands for something here.
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

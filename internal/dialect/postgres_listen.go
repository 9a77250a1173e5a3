package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresChannel is one for all elections of a database; the payload is the
// subject's key.
const postgresChannel = "sqlelect"

// postgresRoom is a condition: there is room for notifications. The server has one queue
// for those of all databases, and when somebody who listens takes none the queue grows; a
// COMMIT that finds it full fails.
const postgresRoom = "pg_notification_queue_usage() < 0.5"

// postgresNotify rings, once the transaction that runs it is committed, if there is room.
func postgresNotify(payload string) string {
	return "CASE WHEN " + postgresRoom + " THEN pg_notify('" + postgresChannel + "', '" + payload + "') END"
}

const queueFull = "the server's queue of notifications is full: somebody listens and takes none, perhaps in a long transaction"

// errQueueFull means that a transaction was not committed, as nobody could be told.
var errQueueFull = errors.New(queueFull)

// Unheard marks the error of a COMMIT that has failed only because the queue of
// notifications has become full since the transaction asked whether there was room: the
// class of the error is then Retry.
func Unheard(err error) error {
	const limitExceeded = "54000"
	if code, _ := postgresCode(err); code == limitExceeded {
		return fmt.Errorf("%w: %w", errQueueFull, err)
	}
	return err
}

// postgresPing is how often a silent connection is used at least: some balancers end one
// after 5 s, and one that is dead does not say so.
const postgresPing = 4 * time.Second

// postgresListener receives the notifications that changes of leader send, see
// gatePostgres and lockPostgres.
type postgresListener struct {
	conn *sql.Conn
	ping time.Duration // how often to use the connection
	used time.Time     // the last time; what it hears is no use of it to the server
}

func listenPostgres(ctx context.Context, db *sql.DB, conn *sql.Conn) (Listener, error) {
	err := conn.Raw(func(dc any) error {
		if _, ok := pgxOf(dc); !ok {
			return fmt.Errorf("%w: the driver's connections (%T) cannot listen for notifications; those of github.com/jackc/pgx/v5/stdlib can, "+
				"also inside of a wrapper whose connections have a method Raw() driver.Conn or Unwrap() driver.Conn", errors.ErrUnsupported, dc)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l := &postgresListener{conn: conn, ping: postgresPing}
	pooled, err := l.pooled(ctx, db)
	if err == nil {
		_, err = conn.ExecContext(ctx, "LISTEN "+postgresChannel)
	}
	if err == nil {
		err = l.probe(ctx, db)
		if err != nil && pooled {
			// It listens on behalf of nobody now, on a connection that others are lent. They
			// do not mind, but should hear no more than need be; it may be another one by now.
			_, _ = conn.ExecContext(ctx, "UNLISTEN "+postgresChannel)
		}
	}
	if err == nil {
		err = l.adapt(ctx)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("listen for notifications: %w", err)
	}
	return l, nil
}

// adapt has the connection used as often as the server wants it to be.
func (l *postgresListener) adapt(ctx context.Context) error {
	l.used = time.Now()
	var ms int64 // 0: it bears any, as it does before version 14
	err := l.conn.QueryRowContext(ctx, "SELECT COALESCE(MAX(setting::bigint), 0) FROM pg_settings WHERE name = 'idle_session_timeout'").Scan(&ms)
	if ms > 0 {
		l.ping = min(l.ping, time.Duration(ms)*time.Millisecond/2)
	}
	return err
}

// errTransactionPooling: so nobody could listen.
var errTransactionPooling = errors.New("none would arrive: the DSN leads to a pooler that lends out the server's connections by the transaction")

// pooled reports whether the connection leads to a pooler, and returns an error if
// that lends the server's connection to another one already, while this one is open.
// Where it has not come to that, the probe will tell.
func (l *postgresListener) pooled(ctx context.Context, db *sql.DB) (bool, error) {
	pooled, err := behindPooler(ctx, l.conn)
	if err != nil || !pooled {
		return pooled, err
	}
	var own, other int64
	const process = "SELECT pg_backend_pid()"
	if err := l.conn.QueryRowContext(ctx, process).Scan(&own); err != nil {
		return true, err
	}
	if err := db.QueryRowContext(ctx, process).Scan(&other); err != nil {
		return true, err
	}
	if own == other {
		return true, errTransactionPooling
	}
	return true, nil
}

// probe sends a notification by another connection and waits for it. A pooler
// that lends its connections by the transaction accepts LISTEN and delivers
// nothing; what this connection sent itself, it might still get.
func (l *postgresListener) probe(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, deadAfter)
	defer cancel()
	token := fmt.Sprintf("probe %x", rand.Uint64())
	var sent bool
	var nothing any
	if err := db.QueryRowContext(ctx, "SELECT "+postgresRoom+", "+postgresNotify(token)).Scan(&sent, &nothing); err != nil {
		return fmt.Errorf("send one: %w", err)
	}
	if !sent {
		return errors.New(queueFull) // not to be tried again at once
	}
	for {
		heard, err := l.receive(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("none arrives: is there a pooler, or a handler of the program's own? %w", err)
		case err != nil || heard == token:
			return err
		}
	}
}

// receive returns the payload of the next notification; "" also of one that a
// handler of the program's own has taken. The connection stays whole when ctx
// ends.
func (l *postgresListener) receive(ctx context.Context) (payload string, err error) {
	err = l.conn.Raw(func(dc any) error {
		conn, _ := pgxOf(dc)
		n, err := conn.WaitForNotification(ctx)
		if n != nil {
			payload = n.Payload
		}
		return err
	})
	return payload, err
}

func (l *postgresListener) Wait(ctx context.Context, _ []Watched, nudge <-chan struct{}) (string, error) {
	for {
		heard, idle, err := l.hear(ctx, nudge)
		if !idle {
			return heard, err
		}
		if err := l.check(ctx); err != nil {
			return "", err
		}
	}
}

// hear waits for a notification or a nudge, and reports whether there was neither until the
// connection was idle for too long.
func (l *postgresListener) hear(ctx context.Context, nudge <-chan struct{}) (heard string, idle bool, err error) {
	waiting, stop := context.WithDeadline(ctx, l.used.Add(l.ping))
	defer stop()
	nudged := make(chan bool, 1)
	go func() {
		select {
		case <-nudge:
			nudged <- true
			stop()
		case <-waiting.Done():
			nudged <- false
		}
	}()
	heard, err = l.receive(waiting)
	ended := waiting.Err() != nil
	stop()
	wasNudged := <-nudged
	if ended && ctx.Err() == nil {
		return heard, heard == "" && !wasNudged, nil // what else is wrong shows when the connection is used
	}
	return heard, false, err
}

// check uses the connection. It fails if that does not answer, and if changes are made without telling anybody
// by now.
func (l *postgresListener) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deadAfter)
	defer cancel()
	l.used = time.Now()
	var room bool
	if err := l.conn.QueryRowContext(ctx, "SELECT "+postgresRoom).Scan(&room); err != nil {
		return err
	}
	if !room {
		return errors.New(queueFull)
	}
	return nil
}

// Close closes the connection: a session that listens must not return to the pool.
func (l *postgresListener) Close() { Discard(l.conn) }

// pgxOf finds pgx's own connection in one of database/sql, also behind wrappers.
func pgxOf(dc any) (*pgx.Conn, bool) {
	for layer := range layers(dc) {
		if c, ok := layer.(interface{ Conn() *pgx.Conn }); ok {
			return c.Conn(), true
		}
	}
	return nil, false
}

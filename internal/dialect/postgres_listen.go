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

// postgresChannel is the one channel for all elections of a database. The payload is the subject's
// key.
const postgresChannel = "sqlelect"

// postgresRoom is a condition: the server's queue has room for notifications. All databases share
// one queue. It grows while a session listens and takes no notifications. A COMMIT that finds it
// full fails.
const postgresRoom = "pg_notification_queue_usage() < 0.5"

// postgresNotify is an expression that notifies the listeners if there is room. The server delivers
// the notification when the transaction is committed.
func postgresNotify(payload string) string {
	return "CASE WHEN " + postgresRoom + " THEN pg_notify('" + postgresChannel + "', '" + payload + "') END"
}

const queueFull = "the server's queue of notifications is full: somebody listens and takes none, perhaps in a long transaction"

// errQueueFull means that a transaction was not committed, because the queue had no room for its
// notification.
var errQueueFull = errors.New(queueFull)

// Unheard marks the error of a COMMIT that has failed only for a full queue of notifications: the
// queue has filled up since the transaction asked for room. A marked error has class Retry.
func Unheard(err error) error {
	const limitExceeded = "54000"
	if code, _ := postgresCode(err); code == limitExceeded {
		return fmt.Errorf("%w: %w", errQueueFull, err)
	}
	return err
}

// postgresPing is the longest time for which a connection is left unused. Some balancers end a
// silent connection after 5 s, and a dead connection does not say that it is dead.
const postgresPing = 4 * time.Second

// postgresListener receives the notifications that changes of leader send, see
// gatePostgres and lockPostgres.
type postgresListener struct {
	conn *sql.Conn
	ping time.Duration // how often to use the connection
	used time.Time     // the last time; to the server, a notification is no use of the connection
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
			// The server's connection still listens, for no client, while it is lent to others.
			// That does them no harm, but is useless. (UNLISTEN may meet another connection by
			// now.)
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

// adapt makes sure that the connection is used often enough for the server's idle_session_timeout.
func (l *postgresListener) adapt(ctx context.Context) error {
	l.used = time.Now()
	var ms int64 // 0: no such timeout, as on all servers before version 14
	err := l.conn.QueryRowContext(ctx, "SELECT COALESCE(MAX(setting::bigint), 0) FROM pg_settings WHERE name = 'idle_session_timeout'").Scan(&ms)
	if ms > 0 {
		l.ping = min(l.ping, time.Duration(ms)*time.Millisecond/2)
	}
	return err
}

// errTransactionPooling: behind such a pooler no session can listen.
var errTransactionPooling = errors.New("none would arrive: the DSN leads to a pooler that lends out the server's connections by the transaction")

// pooled reports whether the connection leads to a pooler. It returns an error if the pooler
// already lends the server's connection to a second client connection while this one is open. If
// that has not happened yet, the probe will tell.
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

// probe sends a notification by another connection and waits for it. A pooler that lends its
// connections by the transaction accepts LISTEN and delivers nothing. Sent by the listening
// connection itself, the notification might arrive all the same.
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
		return errors.New(queueFull) // an error without a class: the caller does not try again at once
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

// receive returns the payload of the next notification. If a handler of the program's own has taken
// that notification, the payload is "". The connection stays whole when ctx ends.
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

// hear waits for a notification or a nudge. If neither comes before the connection has been unused
// for too long, idle is true.
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
		return heard, heard == "" && !wasNudged, nil // any other fault shows at the next use of the connection
	}
	return heard, false, err
}

// check uses the connection. It fails if the server does not answer. It also fails if the queue has
// no room: changes of leader then notify no listener.
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

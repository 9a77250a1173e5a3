package dbtest

import (
	"context"
	"database/sql/driver"
	"slices"
	"sync"
)

// Statements records what is sent to a database, in order: the text of
// statements, and BEGIN, COMMIT and ROLLBACK. Safe for concurrent use.
type Statements struct {
	mu   sync.Mutex
	sent []string
	// broken is the number of the connections that were open at the last Break.
	broken, opened int
	refuse         func(text string) error
}

// Refuse makes every statement from here on fail for which refuse returns an error,
// before it is sent.
func (s *Statements) Refuse(refuse func(text string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

// Break makes every connection that is open now fail from here on, as if the
// server had closed it. What was not committed is lost.
func (s *Statements) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = s.opened
}

// add notes a statement on the nth connection, unless that is broken.
func (s *Statements) add(n int, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n <= s.broken {
		return driver.ErrBadConn
	}
	s.sent = append(s.sent, text)
	if s.refuse != nil {
		return s.refuse(text)
	}
	return nil
}

// Connections returns how many connections were opened so far.
func (s *Statements) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

func (s *Statements) open() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	return s.opened
}

// Take returns what was sent since the last Take.
func (s *Statements) Take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := slices.Clone(s.sent)
	s.sent = nil
	return sent
}

// countingConnector wraps every connection of a driver as tracing libraries do:
// the driver's own connection is reached by a method Raw.
type countingConnector struct {
	driver.Connector
	log *Statements
}

// Wrap is connector with a wrapper around each connection.
func Wrap(connector driver.Connector) driver.Connector {
	return &countingConnector{connector, &Statements{}}
}

// dsnConnector opens connections of a driver that has no connectors of its own.
type dsnConnector struct {
	driver driver.Driver
	dsn    string
}

func (c dsnConnector) Driver() driver.Driver { return c.driver }

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }

func (c *countingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &countingConn{Conn: conn, log: c.log, number: c.log.open()}, nil
}

// countingConn offers every optional interface of a connection. Where the inner
// one lacks it, it answers as database/sql does by itself. A statement that the
// driver wants prepared first (ErrSkip) is noted once, before.
type countingConn struct {
	driver.Conn
	log    *Statements
	number int
}

// Raw returns the driver's own connection.
func (c *countingConn) Raw() driver.Conn { return c.Conn }

func (c *countingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.log.add(c.number, query); err != nil {
		return nil, err
	}
	if inner, ok := c.Conn.(driver.ExecerContext); ok {
		return inner.ExecContext(ctx, query, args)
	}
	return nil, driver.ErrSkip
}

func (c *countingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.log.add(c.number, query); err != nil {
		return nil, err
	}
	if inner, ok := c.Conn.(driver.QueryerContext); ok {
		return inner.QueryContext(ctx, query, args)
	}
	return nil, driver.ErrSkip
}

func (c *countingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if inner, ok := c.Conn.(driver.ConnPrepareContext); ok {
		return inner.PrepareContext(ctx, query)
	}
	return c.Prepare(query)
}

func (c *countingConn) CheckNamedValue(value *driver.NamedValue) error {
	if inner, ok := c.Conn.(driver.NamedValueChecker); ok {
		return inner.CheckNamedValue(value)
	}
	return driver.ErrSkip
}

func (c *countingConn) Ping(ctx context.Context) error {
	if inner, ok := c.Conn.(driver.Pinger); ok {
		return inner.Ping(ctx)
	}
	return nil
}

func (c *countingConn) ResetSession(ctx context.Context) error {
	if inner, ok := c.Conn.(driver.SessionResetter); ok {
		return inner.ResetSession(ctx)
	}
	return nil
}

func (c *countingConn) IsValid() bool {
	inner, ok := c.Conn.(driver.Validator)
	return !ok || inner.IsValid()
}

func (c *countingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.log.add(c.number, "BEGIN"); err != nil {
		return nil, err
	}
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	return countingTx{Tx: tx, conn: c}, err
}

type countingTx struct {
	driver.Tx
	conn *countingConn
}

func (t countingTx) Commit() error {
	if err := t.conn.log.add(t.conn.number, "COMMIT"); err != nil {
		return err
	}
	return t.Tx.Commit()
}

func (t countingTx) Rollback() error {
	if err := t.conn.log.add(t.conn.number, "ROLLBACK"); err != nil {
		return err
	}
	return t.Tx.Rollback()
}

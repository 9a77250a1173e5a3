package dialect

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
)

// wholeTxnConn is a connection for one transaction. When the transaction is over, it sends nothing
// more: each answer of the server says whether a transaction is open. In a text of several
// statements, one statement could end the transaction before the next one. Such a text goes in the
// extended protocol, in which the server refuses it.
type wholeTxnConn struct {
	lendable
	pgx   *pgx.Conn // the pgx connection below lendable
	close func()
}

// lendable is what a driver's connection must offer to be lent. Those of pgx offer it, and so do
// most wrappers.
type lendable interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
}

var errNotLendable = errors.New("behind a pooler, guarded transactions need the driver github.com/jackc/pgx/v5/stdlib")

// wholeTxn returns the outermost layer of dc that can be lent, or nil.
func wholeTxn(dc any) *wholeTxnConn {
	conn, _ := pgxOf(dc)
	for layer := range layers(dc) {
		if c, ok := layer.(lendable); ok && conn != nil {
			return &wholeTxnConn{lendable: c, pgx: conn}
		}
	}
	return nil
}

// ownStatement is a ctx key that marks a statement of the library's.
type ownStatement struct{}

func (c *wholeTxnConn) isOver() error {
	if c.pgx.PgConn().TxStatus() == 'I' {
		return ErrEnded
	}
	return nil
}

func (c *wholeTxnConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := c.lendable.BeginTx(ctx, options)
	if err != nil {
		return nil, err
	}
	return wholeTx{tx, c}, nil
}

func (c *wholeTxnConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.isOver(); err != nil {
		return nil, err
	}
	if isOneStatement(query) || ctx.Value(ownStatement{}) != nil {
		return c.lendable.ExecContext(ctx, query, args)
	}
	if args = extended(args); len(args) > 1 {
		return c.lendable.ExecContext(ctx, query, args)
	}
	// Without arguments pgx would not use the extended protocol.
	result := c.pgx.PgConn().ExecParams(ctx, query, nil, nil, nil, nil).Read()
	return driver.RowsAffected(result.CommandTag.RowsAffected()), result.Err
}

func (c *wholeTxnConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.isOver(); err != nil {
		return nil, err
	}
	if !isOneStatement(query) {
		args = extended(args)
	}
	return c.lendable.QueryContext(ctx, query, args)
}

// wholeTx is the transaction of a wholeTxnConn.
type wholeTx struct {
	driver.Tx
	conn *wholeTxnConn
}

// Commit sends no COMMIT once the transaction is over: the server would find nothing to do, and
// report success.
func (t wholeTx) Commit() error {
	if err := t.conn.isOver(); err != nil {
		return err
	}
	return t.Tx.Commit()
}

// Prepare is PrepareContext for callers without a ctx.
func (c *wholeTxnConn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// PrepareContext only keeps the text. A prepared statement would stay on the server's connection,
// in the way of the client that is lent it next.
func (c *wholeTxnConn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	return keptText{c, query}, nil
}

// Close leaves the connection to its lender. database/sql calls it when the lent handle is closed
// and no call is under way any more.
func (c *wholeTxnConn) Close() error {
	c.close()
	return nil
}

// keptText is a statement whose text is sent each time.
type keptText struct {
	conn *wholeTxnConn
	text string
}

func (s keptText) Close() error  { return nil }
func (s keptText) NumInput() int { return -1 } // the server checks the number

func (s keptText) Exec([]driver.Value) (driver.Result, error) { return nil, errors.ErrUnsupported }
func (s keptText) Query([]driver.Value) (driver.Rows, error)  { return nil, errors.ErrUnsupported }

func (s keptText) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.text, args)
}

func (s keptText) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.text, args)
}

// isOneStatement reports whether query certainly holds no more than one statement: only a semicolon
// separates two.
func isOneStatement(query string) bool {
	return !strings.Contains(strings.TrimRight(query, "; \t\r\n"), ";")
}

// extended makes pgx send a statement in the extended protocol, without preparing it.
func extended(args []driver.NamedValue) []driver.NamedValue {
	all := []driver.NamedValue{{Ordinal: 1, Value: pgx.QueryExecModeExec}}
	for _, arg := range args {
		if _, ok := arg.Value.(pgx.QueryExecMode); !ok {
			arg.Ordinal = len(all) + 1
			all = append(all, arg)
		}
	}
	return all
}

package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
)

// pooledFence keeps a guarded transaction whole on PostgreSQL behind a pooler that lends out the
// server's connections by the transaction (PgBouncer). A setting of the session would reach the
// client that is lent the connection next. It would not bind what the function sends after a raw
// COMMIT, which may go to another connection. So everything set here ends with the transaction. The
// function's statements go through a wholeTxnConn, which lets no statement pass once the
// transaction is over.
type pooledFence struct {
	conn  *sql.Conn
	token string
	loan  *loan
	lent  *sql.DB         // has only that one connection
	back  func()          // lets conn be used again
	ended <-chan struct{} // closed when conn may be used again
	dead  bool            // the connection was dead before the transaction began
}

// lendPostgres lends conn's connection to a handle of its own, until Lift.
func lendPostgres(conn *sql.Conn) (Fence, error) {
	lent, back, ended := make(chan *wholeTxnConn, 1), make(chan struct{}), make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = conn.Raw(func(dc any) error {
			whole := wholeTxn(dc)
			if whole == nil {
				return errNotLendable
			}
			lent <- whole
			<-back
			return nil
		})
	}()
	select {
	case <-ended:
		return nil, err
	case whole := <-lent:
		loan := &loan{whole: whole, over: make(chan struct{})}
		whole.close = sync.OnceFunc(func() { close(loan.over) })
		return &pooledFence{
			conn: conn, loan: loan, lent: sql.OpenDB(loan),
			back: sync.OnceFunc(func() { close(back) }), ended: ended,
		}, nil
	}
}

func (f *pooledFence) Begin(ctx context.Context) (*Txn, error) {
	tx, err := f.lent.BeginTx(ctx, nil)
	f.dead = err != nil
	return newTxn(tx, f.conn, err)
}

func (f *pooledFence) Hold(ctx context.Context, tx *sql.Tx, c Claim) (held bool, err error) {
	f.token = newToken()
	ctx = context.WithValue(ctx, ownStatement{}, true)
	return holdPostgres(ctx, tx, "SET TRANSACTION READ WRITE; ", f.token, c)
}

func (f *pooledFence) Commit(ctx context.Context, tx *Txn) error {
	return commitPostgres(ctx, tx, "1", f.token)
}

func (f *pooledFence) Rollback(_ context.Context, tx *Txn) error { return tx.Rollback() }

func (f *pooledFence) Ended() bool { return false }

// Lift has nothing to restore. A goroutine that the function left behind may still be ending the
// transaction: Lift waits for that.
func (f *pooledFence) Lift(discard bool) error {
	_ = f.lent.Close()
	if f.loan.given {
		<-f.loan.over
	}
	f.back()
	<-f.ended
	return restore(f.conn, discard || f.dead)
}

// loan is a connector that gives its one connection once.
type loan struct {
	whole *wholeTxnConn
	given bool
	over  chan struct{} // closed when the lent handle has let go of it
}

func (l *loan) Connect(context.Context) (driver.Conn, error) {
	if l.given {
		return nil, driver.ErrBadConn // the connection was dead
	}
	l.given = true
	return l.whole, nil
}

func (*loan) Driver() driver.Driver { return nil }

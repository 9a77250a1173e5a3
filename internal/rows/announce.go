package rows

import (
	"context"
	"errors"
	"fmt"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/wakeup"
)

// bell rings at changes of this election's leader.
func (e Election) bell() wakeup.Bell {
	leader := e.leaderRow()
	return wakeup.Bell{DB: e.db, Dialect: e.dialect, Identity: e.identity, Subject: dialect.Subject{
		Table: e.quoted, Name: e.election, Where: leader.where, Args: leader.args, HolderColumn: "leader_id", NumberColumn: "version",
	}}
}

// announce tells watchers of a change of leader that has been committed. It does nothing for a
// renewal.
func (e Election) announce(c Change) {
	if !c.LeaderChanged {
		return
	}
	reign := dialect.Holding{Holder: c.LeaderID, Number: c.Term}
	if c.LeaderID == "" {
		e.led.Delete(e.election)
	} else {
		e.led.Store(e.election, reign)
	}
	e.bell().Ring(reign)
}

// errAsleep means that the program wants no wake-ups.
var errAsleep = fmt.Errorf("%w: wake-ups are switched off (WithoutWakeUps)", errors.ErrUnsupported)

// Watch calls changed when it has begun to watch, and at each change of leader, until ctx ends or
// the connection breaks. It blocks; changed must not block.
func (e Election) Watch(ctx context.Context, changed func()) error {
	err := errAsleep
	if !e.asleep {
		err = e.checkUsable(ctx)
	}
	if err == nil {
		// The reign that this process has acquired here and not released. It may have begun before
		// anything watched, or before a connection broke. If another process has ended it
		// meanwhile, to pass it on does no harm.
		led, _ := e.led.Load(e.election)
		reign, _ := led.(dialect.Holding)
		err = e.bell().Watch(ctx, reign, changed)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("election: watch %v: %w", e, err)
}

package election

import "context"

// Storage keeps the record of one election. SQLStorage and ORMStorage implement
// it; package storagetest checks an implementation against every sentence of
// this contract.
//
// All methods are safe for concurrent use, by any number of handles on the same
// election in any number of processes. They end soon after ctx does; the elector
// stays safe, but cannot stop a call that ignores its ctx.
type Storage interface {
	// Get returns the current record, the caller's to keep and change. Before
	// the first Update, and when the stored row is missing, it returns a zero
	// Record (where a leader row survives, with that row's Term). It sees every
	// Update acknowledged before the call, through whatever handle.
	Get(ctx context.Context) (*Record, error)

	// Update stores record, and with it Version + 1, if the stored version is
	// still record.Version; otherwise it stores nothing and returns an error
	// wrapping ErrRecordConflict. Of several concurrent Updates of one version at
	// most one succeeds, also of version 0, the creation. It leaves the caller's
	// record as it was, its Version included.
	//
	// isLeaderChanged is true for every acquisition and release, also by the
	// same ID: record.LeaderID and record.Term then go to the leader row, in the
	// same transaction.
	//
	// Any error other than ErrRecordConflict means that the outcome is unknown.
	Update(ctx context.Context, record *Record, isLeaderChanged bool) error
}

// Watcher is an ability that a Storage may have, besides: to tell a member that
// the leader has changed, so that it need not wait until it reads the next time.
// It is a hint and no more. Nothing that is promised depends on it; with a
// Watcher that fails, or is late, members are as quick as without one.
type Watcher interface {
	// Watch calls changed once when it has begun to watch, and then soon after each
	// change of leader (an Update with isLeaderChanged) by any handle, in any
	// process. It may call it without a reason, not for each renewal though, and
	// may miss changes, above all those of members that do not watch themselves.
	// Changed must not block, nor call the storage; calls may come from several
	// goroutines, and none after Watch has returned.
	//
	// Watch blocks. It returns ctx's error when ctx ends, or an error that says why
	// it cannot watch, or no longer can: then it may be called again.
	Watch(ctx context.Context, changed func()) error
}

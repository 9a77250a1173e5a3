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

package election

import "context"

// MemberStorage is an ability that a Storage may have: it keeps members' entries
// apart from the record, one by one. Followers renew there, so that they neither
// conflict with each other nor make the record grow. An ability that a wrapper of
// a Storage hides is not used, and while one member lacks it, none uses it.
//
// An entry is replaced by compare-and-swap: before is what is stored, as far as
// its Nonce and Renewals tell, or nil if none is; after is what is to be stored
// under the same ID, or nil to remove it. Both nil, or two IDs, are an error. A
// method that finds something else stored does nothing and returns an error wrapping
// ErrRecordConflict; one whose table has no place for entries, an error
// wrapping errors.ErrUnsupported. After any other error the outcome is unknown.
type MemberStorage interface {
	Storage

	// GetMembers returns the entries of the given IDs that are kept apart, or all
	// if none is given: in no order, the caller's to keep and change.
	GetMembers(ctx context.Context, ids ...string) ([]*Member, error)

	// UpdateMember replaces one entry.
	UpdateMember(ctx context.Context, before, after *Member) error

	// UpdateWithMember is Update and UpdateMember in one: both happen, or neither.
	UpdateWithMember(ctx context.Context, record *Record, isLeaderChanged bool, before, after *Member) error
}

// Storage keeps the record of one election. SQLStorage and ORMStorage implement
// it; package storagetest checks an implementation against every sentence of
// this contract.
//
// A wrapper that embeds a *SQLStorage or *ORMStorage has their abilities too, and those that it
// does not override pass it by: members' changes of leader go through UpdateWithMember then, and
// not through its Update. A wrapper that is to see every write overrides Update, UpdateMember
// and UpdateWithMember, or embeds the interface Storage, which hides the abilities.
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
	// it cannot watch, or no longer can. One that wraps errors.ErrUnsupported says that it
	// never can; after any other error it is called again, at once if it has watched for
	// a while.
	Watch(ctx context.Context, changed func()) error
}

package election

import "context"

// MemberStorage is an ability that a Storage may have: it keeps members' entries apart from the
// record, one by one. Followers renew there, so they do not conflict with each other, and the
// record does not grow with their number. If a wrapper of a Storage does not forward these methods,
// they are not used. Members use them only while every live member can.
//
// An entry is replaced by compare-and-swap. before describes the stored entry, by its Nonce and
// Renewals alone; nil means that no entry is stored. after is the entry to store under the same ID;
// nil means that the stored entry is removed. It is an error if both are nil, or if their IDs
// differ.
//
// All methods are safe for concurrent use, and a call ends soon after its ctx does. Errors:
//
//   - A method that finds another entry or version stored writes nothing and returns an error
//     wrapping ErrRecordConflict.
//   - A method that cannot keep entries apart (the table has no place for them, or the user may not
//     remove them) writes nothing and returns an error wrapping errors.ErrUnsupported.
//   - After any other error of a write the outcome is unknown.
type MemberStorage interface {
	Storage

	// GetMembers returns the entries of the given IDs that are kept apart, in no order. IDs without
	// an entry are skipped. Without IDs it returns all entries, also if the caller passes an empty
	// slice that it has computed. The entries are the caller's to keep and change.
	GetMembers(ctx context.Context, ids ...string) ([]*Member, error)

	// UpdateMember replaces, adds or removes one entry.
	UpdateMember(ctx context.Context, before, after *Member) error

	// UpdateWithMember is Update and UpdateMember in one: both happen, or neither.
	UpdateWithMember(ctx context.Context, record *Record, isLeaderChanged bool, before, after *Member) error
}

// Storage keeps the record of one election. SQLStorage and ORMStorage implement it. Package
// storagetest checks an implementation against this contract.
//
// A wrapper that embeds a *SQLStorage or *ORMStorage has their abilities (MemberStorage, Watcher)
// too. Members call the methods that it does not override past it: a change of leader goes through
// UpdateWithMember then, and not through the wrapper's Update. A wrapper that has to see every
// write overrides Update, UpdateMember and UpdateWithMember, or it embeds the interface Storage,
// which hides the abilities.
//
// All methods are safe for concurrent use, by any number of handles on the same election in any
// number of processes. A call ends soon after its ctx does, and stores nothing if its ctx had ended
// before. The elector stays safe with a call that ignores its ctx, but cannot stop it.
type Storage interface {
	// Get returns the current record, the caller's to keep and change. Before the first Update, and
	// when the stored row is missing, it returns a zero Record. If a leader row is left then, the
	// zero Record has that row's Term. Get sees every Update that was acknowledged before the call,
	// through whatever handle.
	Get(ctx context.Context) (*Record, error)

	// Update stores record, with Version + 1, if the stored version is still record.Version.
	// Otherwise it stores nothing and returns an error wrapping ErrRecordConflict. Of several
	// concurrent Updates of one version at most one succeeds, also of version 0, the creation.
	// Update leaves the caller's record as it was, its Version included.
	//
	// isLeaderChanged is true for every acquisition and release, also by the same ID. Then
	// record.LeaderID and record.Term also go to the leader row, in the same transaction.
	//
	// Any error other than ErrRecordConflict means that the outcome is unknown.
	Update(ctx context.Context, record *Record, isLeaderChanged bool) error
}

// Watcher is another ability that a Storage may have: it tells a member that the leader has
// changed, so the member need not wait for its next poll. It is a hint and no more, and no promise
// depends on it. With a Watcher that fails or is late, members are as quick as without one.
type Watcher interface {
	// Watch calls changed once when it has begun to watch, and then soon after each change of
	// leader (an Update with isLeaderChanged) by any handle, in any process. Watch may call changed
	// without a reason, but not for each renewal. It may miss changes, above all changes by members
	// that do not watch themselves. changed must not block and must not call the storage. The calls
	// may come from several goroutines; none comes after Watch has returned.
	//
	// Watch blocks. It returns ctx.Err() when ctx ends, and otherwise an error that says why it
	// cannot watch, or no longer can. An error wrapping errors.ErrUnsupported means that it never
	// can. After any other error Watch is called again: some 30 ms later if it has watched for a
	// second, else after a pause that grows.
	Watch(ctx context.Context, changed func()) error
}

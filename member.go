package election

import (
	"maps"
	"time"
)

// Member is the entry of one member: in the Record or, where the Storage is a MemberStorage, apart
// from it. The member alone writes its entry; the leader removes it once the member's lease is
// over.
type Member struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address"`
	// LeaseDuration is how long this member is still counted as alive once it is silent. A reader
	// takes a value ≤ 0 for the reader's own LeaseDuration, and a value above MaxLeaseDuration for
	// MaxLeaseDuration.
	LeaseDuration time.Duration `json:"lease_duration"`
	// RenewTime is the member's wall clock at its last renewal. It grows with every renewal, also
	// if the clock does not. It is for people and for the four-column version. It is compared with
	// no other clock.
	RenewTime time.Time `json:"renew_time"`

	// Labels are the Config.Labels of the member.
	Labels map[string]string `json:"labels,omitempty"`
	// Nonce is random text that each process draws. Two entries with one ID and different nonces
	// come from two processes. It is empty in an entry that the four-column version wrote.
	Nonce string `json:"nonce,omitempty"`
	// Renewals is a counter that grows with each renewal of this process, by a random number each
	// time. The random step tells the process from a copy of it (a snapshot that was resumed): the
	// copy writes another number. Observers judge a lease by whether the counter moves, never by a
	// wall clock.
	Renewals uint64 `json:"renewals,omitempty"`
	// Declines is true while the member takes part but does not campaign: it
	// resigned for a while, backs off, or its last callback still runs.
	Declines bool `json:"declines,omitempty"`
	// Protocol is 1 if the member can renew an entry that is kept apart from the record, else 0.
	// While a member with 0 lives, all members renew in the record.
	Protocol int `json:"protocol,omitempty"`
}

// Clone returns a copy that shares nothing with m; nil for nil.
func (m *Member) Clone() *Member {
	if m == nil {
		return nil
	}
	c := *m
	c.Labels = maps.Clone(m.Labels)
	return &c
}

// lease is the duration by which a reader judges m; own is the reader's own LeaseDuration.
func (m *Member) lease(own time.Duration) time.Duration {
	if m.LeaseDuration <= 0 {
		return own
	}
	return min(m.LeaseDuration, MaxLeaseDuration)
}

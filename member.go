package election

import (
	"maps"
	"time"
)

// Member is one participant's entry in the Record, written by that participant
// alone (and removed by the leader once its lease has lapsed).
type Member struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address"`
	// LeaseDuration is how long this member, once silent, is still counted as
	// alive. A value ≤ 0 in an entry written by someone else means "the
	// reader's own"; more than MaxLeaseDuration counts as MaxLeaseDuration.
	LeaseDuration time.Duration `json:"lease_duration"`
	// RenewTime is the member's wall clock at its last renewal, made to grow
	// strictly. It is for people and for older readers; nothing here is decided
	// by comparing it with another clock.
	RenewTime time.Time `json:"renew_time"`

	// Labels are the Config.Labels of the member.
	Labels map[string]string `json:"labels,omitempty"`
	// Nonce is drawn at random by each process: two entries with one ID and
	// different nonces come from two processes. Empty in entries of older members.
	Nonce string `json:"nonce,omitempty"`
	// Renewals grows with each renewal of this process, by a number drawn at random: so a
	// copy of the process (a snapshot that was resumed) does not go on from it unnoticed.
	// Observers judge a lease by whether it moves, never by a wall clock.
	Renewals uint64 `json:"renewals,omitempty"`
	// Declines is true while the member takes part but does not campaign: it
	// resigned for a while, backs off, or its last callback still runs.
	Declines bool `json:"declines,omitempty"`
	// Protocol is 1 if the member can renew an entry that is kept apart from the
	// record. While a member without it lives, all renew in the record.
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

// lease is the duration by which a reader judges m.
func (m *Member) lease(own time.Duration) time.Duration {
	if m.LeaseDuration <= 0 {
		return own
	}
	return min(m.LeaseDuration, MaxLeaseDuration)
}

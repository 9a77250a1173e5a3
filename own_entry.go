package election

import (
	"slices"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// ownWrite is what tells an entry that this process wrote from all others.
type ownWrite struct {
	renewals  uint64
	renewTime time.Time
	proves    bool // stored, it proves a loss of history
}

// leapSize bounds what a leap adds to the counter. It is small enough for the counter to
// stay below 2^53, up to which every reader of JSON tells integers apart.
const leapSize = 1 << 20

// entry is a fresh own entry. Its counter leaps, by a number that was drawn for this
// write alone. So a copy of this process, which knows all that this one knew when it was
// copied, writes another entry than this one does: of the two one is stored, and the other
// process then finds an entry that it did not write.
func (p *participant) entry(now clock.Instant, declines bool) *Member {
	wall := now.Time().UTC()
	if !wall.After(p.last.renewTime) {
		wall = p.last.renewTime.Add(time.Nanosecond) // a frozen or stepped-back clock
	}
	p.last = ownWrite{renewals: p.last.renewals + 1 + p.leap%leapSize, renewTime: wall}
	p.recent[p.writes%uint64(len(p.recent))] = p.last
	p.writes++
	m := &Member{
		ID: p.cfg.ID, Name: p.cfg.Name, Address: p.cfg.Address,
		LeaseDuration: p.cfg.LeaseDuration, RenewTime: wall, Labels: p.cfg.Labels,
		Nonce: p.ownNonce, Renewals: p.last.renewals, Declines: declines,
	}
	if p.apart {
		m.Protocol = 1
	}
	return m
}

// together reports whether the own entry belongs into the record although this
// member does not lead: there is no other place for it, or a member takes part that
// knows none, or rec is old, so that only a write on it tells why.
func (p *participant) together(rec *Record, now time.Duration) bool {
	return !p.apart || p.isOld(rec) || slices.ContainsFunc(rec.Members, func(m *Member) bool {
		return m.ID != p.cfg.ID && m.Protocol == 0 && !p.expired(m.ID, now)
	})
}

// leftover is the entry that an earlier process of this member has left apart, which
// is in the way once ours stands in the record.
func (p *participant) leftover(rec *Record) *Member {
	if row := p.rows[p.cfg.ID]; row != nil && row.Nonce != p.ownNonce && !p.isOld(rec) {
		return row
	}
	return nil
}

// whose says who wrote the entry with this member's ID.
type whose int

const (
	entryOwn     whose = iota // this process, or nobody that lives
	entryForeign              // another process that may live: leave it alone
	entryRival                // another process that lives
	entryClone                // a copy of this process, which may live
)

// identify judges the entry with this member's ID; nil if there is none. An
// entry of another process is left alone until it has stood still for a whole
// lease; one that still moves a whole lease after first sight, or that replaced
// our own, is a second live process.
func (p *participant) identify(own *Member, now time.Duration) whose {
	switch {
	case own == nil:
		return entryOwn
	case own.Nonce == p.ownNonce:
		if p.wroteCounter(own.Renewals) {
			return entryOwn
		}
		return entryClone
	case own.Nonce == "" && p.wrote(own.RenewTime):
		return entryOwn // an older member rewrote the record and dropped our nonce
	case p.joined || p.lives(own.ID):
		return entryRival
	case p.expired(own.ID, now):
		return entryOwn
	}
	return entryForeign
}

// wrote reports whether this process may have written an entry with that
// RenewTime.
func (p *participant) wrote(renewTime time.Time) bool {
	return !renewTime.IsZero() && (renewTime.Equal(p.acked.renewTime) ||
		slices.ContainsFunc(p.recent[:], func(w ownWrite) bool { return renewTime.Equal(w.renewTime) }))
}

// wroteCounter reports whether this process may have written an entry with that counter.
// An older one than was acknowledged is from before any copy was made, or no longer
// what is stored. One that this process has forgotten to have written is taken for
// a copy's: that costs a follower one lease, and a leader has lost its trust long before.
func (p *participant) wroteCounter(renewals uint64) bool {
	return renewals <= p.acked.renewals ||
		slices.ContainsFunc(p.recent[:], func(w ownWrite) bool { return renewals == w.renewals })
}

// copied reports whether the own entry in rec, or apart from it, was written by a copy of
// this process.
func (p *participant) copied(rec *Record, now time.Duration) bool {
	return !p.isOld(rec) && p.identify(p.entryIn(rec, p.cfg.ID), now) == entryClone
}

// rename makes this process another one than its copy: a newcomer, which knows nothing
// of what it has written, and leaves alone what bears its old nonce.
func (p *participant) rename(nonce string) {
	p.ownNonce = nonce
	p.last.renewals, p.acked, p.recent = 0, ownWrite{}, [len(p.recent)]ownWrite{}
	p.ownTerm = 0
	clear(p.terms)
}

// replaced reports whether an entry of another process with the own ID stands in
// rec, or apart from it, although this member has joined. With a reign at stake
// that is a rival. Without one it may also be an earlier process's entry in a
// restored record: this member starts anew, and learns whether the other one lives.
func (p *participant) replaced(rec *Record, now time.Duration) bool {
	own := p.entryIn(rec, p.cfg.ID)
	return own != nil && p.joined && p.identify(own, now) == entryRival
}

// needsOwn reports whether what is kept apart under the own ID has to be read
// before a write is planned.
func (p *participant) needsOwn() bool { return p.apart && (!p.joined || !p.ownRead) }

// seeOwn takes in what is kept apart under the own ID.
func (p *participant) seeOwn(found []*Member, now time.Duration) {
	p.evicted = len(found) == 0 && (p.evicted || p.expired(p.cfg.ID, now))
	p.seeOwnRow(found, now)
	p.ownRead = true
	for _, m := range found {
		if m.Nonce == p.ownNonce && m.Renewals > p.acked.renewals {
			p.inside = false // a write that was not acknowledged has moved it there
		}
	}
}

// cannotKeepApart is told by a storage that has no place for entries (any more).
func (p *participant) cannotKeepApart() {
	p.apart, p.ownRead, p.kept, p.rows, p.stale = false, true, nil, map[string]*Member{}, true
}

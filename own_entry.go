package election

import (
	"slices"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// entry is a fresh own entry.
func (p *participant) entry(now clock.Instant, declines bool) *Member {
	p.renewals++
	wall := now.Time().UTC()
	if !wall.After(p.written) {
		wall = p.written.Add(time.Nanosecond) // a frozen or stepped-back clock
	}
	p.written = wall
	p.recent[p.renewals%uint64(len(p.recent))] = wall
	m := &Member{
		ID: p.cfg.ID, Name: p.cfg.Name, Address: p.cfg.Address,
		LeaseDuration: p.cfg.LeaseDuration, RenewTime: wall, Labels: p.cfg.Labels,
		Nonce: p.ownNonce, Renewals: p.renewals, Declines: declines,
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
)

// identify judges the entry with this member's ID; nil if there is none. An
// entry of another process is left alone until it has stood still for a whole
// lease; one that still moves a whole lease after first sight, or that replaced
// our own, is a second live process.
func (p *participant) identify(own *Member, now time.Duration) whose {
	switch {
	case own == nil || own.Nonce == p.ownNonce:
		return entryOwn
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
	return !renewTime.IsZero() &&
		(renewTime.Equal(p.ackedAt) || slices.ContainsFunc(p.recent[:], renewTime.Equal))
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
		if m.Nonce == p.ownNonce && m.Renewals > p.acked {
			p.inside = false // a write that was not acknowledged has moved it there
		}
	}
}

// cannotKeepApart is told by a storage that has no place for entries (any more).
func (p *participant) cannotKeepApart() {
	p.apart, p.ownRead, p.kept, p.rows, p.stale = false, true, nil, map[string]*Member{}, true
}

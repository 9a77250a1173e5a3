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
	proves    bool // if it is found stored, history was lost
}

// ownWrites is what this process remembers of the entries that it wrote for itself.
type ownWrites struct {
	leap   uint64       // for the next entry, see newEntry
	count  uint64       // entries written so far
	last   ownWrite     // the last one written
	acked  ownWrite     // the last one acknowledged
	recent [32]ownWrite // the last ones written: the outcome of each may be unknown
}

// leapSize bounds what a leap adds to the counter. With it the counter stays below 2^53, up to
// which every reader of JSON tells integers apart.
const leapSize = 1 << 20

// next adds an entry written at wall. RenewTime grows with each entry, also when the clock is
// frozen or stepped back.
func (w *ownWrites) next(wall time.Time) ownWrite {
	if !wall.After(w.last.renewTime) {
		wall = w.last.renewTime.Add(time.Nanosecond)
	}
	w.last = ownWrite{renewals: w.last.renewals + 1 + w.leap%leapSize, renewTime: wall}
	w.recent[w.count%uint64(len(w.recent))] = w.last
	w.count++
	return w.last
}

// hasTime reports whether this process may have written an entry with that RenewTime.
func (w *ownWrites) hasTime(renewTime time.Time) bool {
	return !renewTime.IsZero() && (renewTime.Equal(w.acked.renewTime) ||
		slices.ContainsFunc(w.recent[:], func(r ownWrite) bool { return renewTime.Equal(r.renewTime) }))
}

// hasCounter reports whether this process may have written an entry with that counter. A counter
// below the one acknowledged is of an entry from before any copy was made, or of one that is no
// longer stored. An entry that this process has forgotten is taken for a copy's: a follower loses
// one lease by that, and a leader has lost its trust long before.
func (w *ownWrites) hasCounter(renewals uint64) bool {
	return renewals <= w.acked.renewals ||
		slices.ContainsFunc(w.recent[:], func(r ownWrite) bool { return renewals == r.renewals })
}

// markProof notes that the entry with that counter proves a loss of history, if it is found stored.
func (w *ownWrites) markProof(renewals uint64) {
	for i := range w.recent {
		w.recent[i].proves = w.recent[i].proves || w.recent[i].renewals == renewals
	}
}

// isProof reports whether the entry with that counter was marked.
func (w *ownWrites) isProof(renewals uint64) bool {
	return slices.ContainsFunc(w.recent[:], func(r ownWrite) bool { return r.proves && r.renewals == renewals })
}

// clearProofs forgets all marks.
func (w *ownWrites) clearProofs() {
	for i := range w.recent {
		w.recent[i].proves = false
	}
}

// forget forgets all entries, but not the last RenewTime.
func (w *ownWrites) forget() {
	w.last.renewals, w.acked, w.recent = 0, ownWrite{}, [len(w.recent)]ownWrite{}
}

// newEntry is a fresh own entry. Its counter leaps by a number that was drawn at random for this
// write. A copy of this process knows all that this one knew when it was copied, but draws other
// numbers: the two write different entries, one of them is stored, and the other process finds an
// entry that it did not write.
func (p *participant) newEntry(now clock.Instant, declines bool) *Member {
	w := p.written.next(now.Time().UTC())
	m := &Member{
		ID: p.cfg.ID, Name: p.cfg.Name, Address: p.cfg.Address,
		LeaseDuration: p.cfg.LeaseDuration, RenewTime: w.renewTime, Labels: p.cfg.Labels,
		Nonce: p.ownNonce, Renewals: w.renewals, Declines: declines,
	}
	if p.keepsMemberRows {
		m.Protocol = 1
	}
	return m
}

// mustRenewInRecord reports whether the own entry belongs into the record although this member does
// not lead. It does in three cases: the storage has no member rows; a live member knows of none;
// rec is old, and only a write on it tells why.
func (p *participant) mustRenewInRecord(rec *Record, now time.Duration) bool {
	return !p.keepsMemberRows || p.isOld(rec) || slices.ContainsFunc(rec.Members, func(m *Member) bool {
		return m.ID != p.cfg.ID && m.Protocol == 0 && !p.expired(m.ID, now)
	})
}

// predecessorRow is the member row that an earlier process of this member has left behind, or nil.
// It is in the way once this process's entry stands in the record.
func (p *participant) predecessorRow(rec *Record) *Member {
	if row := p.rows.byID[p.cfg.ID]; row != nil && row.Nonce != p.ownNonce && !p.isOld(rec) {
		return row
	}
	return nil
}

// ownEntryClass says who wrote the entry with this member's ID.
type ownEntryClass int

const (
	entryOwn     ownEntryClass = iota // this process, or a process that has ended
	entryForeign                      // another process that may live: its entry is left alone
	entryRival                        // another process that lives
	entryCopy                         // a copy of this process that may live
)

// classifyOwnEntry says who wrote own, the entry with this member's ID (nil: there is none).
//
//   - An entry of another process that has stood still for its whole lease is that of a process that has ended.
//   - An entry of another process that still changes a whole lease after first sight is a rival's, and so is
//     one that replaced this process's entry.
//   - Between first sight and the end of its lease an entry is foreign.
func (p *participant) classifyOwnEntry(own *Member, now time.Duration) ownEntryClass {
	switch {
	case own == nil:
		return entryOwn
	case own.Nonce == p.ownNonce:
		if p.written.hasCounter(own.Renewals) {
			return entryOwn
		}
		return entryCopy
	case own.Nonce == "" && p.written.hasTime(own.RenewTime):
		return entryOwn // a four-column version rewrote the record and dropped the nonce
	case p.joined || p.provenAlive(own.ID):
		return entryRival
	case p.expired(own.ID, now):
		return entryOwn
	}
	return entryForeign
}

// foundCopy reports whether a copy of this process wrote the own entry, in rec or in the own member
// row.
func (p *participant) foundCopy(rec *Record, now time.Duration) bool {
	return !p.isOld(rec) && p.classifyOwnEntry(p.entryIn(rec, p.cfg.ID), now) == entryCopy
}

// takeNewNonce tells this process apart from its copy. It forgets what it has written, and treats
// what bears its old nonce as another process's.
func (p *participant) takeNewNonce(nonce string) {
	p.ownNonce = nonce
	p.written.forget()
	p.acquiredTerm = 0
	clear(p.terms)
}

// ownEntryReplaced reports whether another process's entry stands in the place of this one's, in
// rec or in the own member row. While this member leads, that process is a rival. While it does
// not, the entry may also be an earlier process's in a restored record: this member starts anew,
// and learns whether the other process lives.
func (p *participant) ownEntryReplaced(rec *Record, now time.Duration) bool {
	own := p.entryIn(rec, p.cfg.ID)
	return own != nil && p.joined && p.classifyOwnEntry(own, now) == entryRival
}

// needsOwnRow reports whether the own member row has to be read before a write is planned.
func (p *participant) needsOwnRow() bool { return p.keepsMemberRows && (!p.joined || !p.ownRowKnown) }

// applyOwnRow takes in the own member row as it was read; found is empty if there is none.
func (p *participant) applyOwnRow(found []*Member, now time.Duration) {
	p.ownRowEvicted = len(found) == 0 && (p.ownRowEvicted || p.expired(p.cfg.ID, now))
	p.setOwnRow(found, now)
	p.ownRowKnown = true
	for _, m := range found {
		if m.Nonce == p.ownNonce && m.Renewals > p.written.acked.renewals {
			p.ackedInRecord = false // a write that was not acknowledged has moved the entry to the row
		}
	}
}

// dropMemberRows takes in that the storage has no member rows, or none any more.
func (p *participant) dropMemberRows() {
	p.keepsMemberRows, p.ownRowKnown, p.lastOwnRow = false, true, nil
	p.rows.byID, p.stale = map[string]*Member{}, true
}

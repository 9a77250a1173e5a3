package election

import (
	"cmp"
	"slices"
	"time"
)

// sighting is what was last seen of one member's entry.
type sighting struct {
	nonce     string
	renewals  uint64
	renewTime time.Time
	lease     time.Duration
	since     time.Duration // the moment it was last seen to have changed
	first     time.Duration // the moment of first sight
	advances  int           // how often it changed since then
}

// seeMembers takes in the entries in rec, and what was kept apart when rows was last
// changed. However many members there are: where rows is as it was, but for our own
// row, and no entry has left the record, only the entries in it and our own can be
// others than before.
func (o *observation) seeMembers(rec *Record, now time.Duration) {
	before := o.entries
	o.entries = make(map[string]*Member, len(rec.Members))
	for _, m := range rec.Members {
		o.entries[m.ID] = m
	}
	for id := range before {
		_, stays := o.entries[id]
		o.stale = o.stale || !stays
	}
	if o.stale {
		o.seeAll(now)
		return
	}
	for id := range o.entries {
		o.members[id] = o.seeMember(o.entryOf(id), now)
	}
	if own := o.entryOf(o.ownID); own != nil {
		o.members[o.ownID] = o.seeMember(own, now)
	} else {
		delete(o.members, o.ownID)
	}
}

// seeAll takes in everybody's entry.
func (o *observation) seeAll(now time.Duration) {
	members := make(map[string]sighting, len(o.entries)+len(o.rows))
	for id := range o.entries {
		members[id] = o.seeMember(o.entryOf(id), now)
	}
	o.others = make([]seenMember, 0, len(o.rows))
	for id, row := range o.rows {
		if _, inside := o.entries[id]; inside {
			continue
		}
		s := o.seeMember(row, now)
		members[id] = s
		if id != o.ownID {
			o.others = append(o.others, s.of(row, true))
		}
	}
	slices.SortFunc(o.others, func(a, b seenMember) int { return cmp.Compare(a.ID, b.ID) })
	o.members, o.stale = members, false
}

func (o *observation) seeMember(m *Member, now time.Duration) sighting {
	s := o.sight(m, now)
	o.longest = max(o.longest, s.lease)
	return s
}

// entryOf is the entry of id that counts in the record or apart from it, or nil.
func (o *observation) entryOf(id string) *Member { return later(o.entries[id], o.rows[id]) }

// entryIn is as entryOf, with rec as the record.
func (o *observation) entryIn(rec *Record, id string) *Member {
	inside, _ := rec.FindMember(id)
	return later(inside, o.rows[id])
}

// later is the one that counts of a member's entries in the record and apart from it:
// the later one of the same process, else that in the record: that of the process
// which leads, or led.
func later(inside, row *Member) *Member {
	if inside == nil || row != nil && row.Nonce != "" && row.Nonce == inside.Nonce && row.Renewals > inside.Renewals {
		return row
	}
	return inside
}

// sight compares an entry with what was last seen of it. An older member that
// rewrites the record drops everybody's nonce and counter: that alone is no sign
// of life.
func (o *observation) sight(m *Member, now time.Duration) sighting {
	s := sighting{nonce: m.Nonce, renewals: m.Renewals, renewTime: m.RenewTime, lease: m.lease(o.ownLease), since: now, first: now}
	last, known := o.members[m.ID]
	if !known {
		return s
	}
	if m.Nonce != "" && m.Nonce == last.nonce && m.Renewals < last.renewals {
		return last // an older copy of it, kept apart
	}
	s.since, s.first, s.advances = last.since, last.first, last.advances
	counted := m.Nonce != "" && (m.Nonce != last.nonce || m.Renewals != last.renewals)
	restored := last.nonce == "" && m.RenewTime.Equal(last.renewTime)
	if !m.RenewTime.Equal(last.renewTime) || (counted && !restored) {
		s.since, s.advances = now, last.advances+1
	}
	return s
}

// seeOwnRow takes in what is kept apart under the own ID.
func (o *observation) seeOwnRow(found []*Member, now time.Duration) {
	delete(o.rows, o.ownID)
	for _, m := range found {
		if m.ID == o.ownID {
			o.rows[m.ID] = m
		}
	}
	if o.base != nil {
		o.see(o.base, now)
	}
}

// seeAllRows takes in all that is kept apart, and its sum.
func (o *observation) seeAllRows(found []*Member, roster uint64, now time.Duration) {
	o.rowsRead, o.rowsAt = true, now
	o.changes++
	if o.base == nil {
		return
	}
	rows := make(map[string]*Member, len(found))
	for _, m := range found {
		if last, ok := o.rows[m.ID]; ok && last.Nonce == m.Nonce && last.Renewals > m.Renewals {
			m = last // from a replica that lags
		}
		rows[m.ID] = m
	}
	if own, ok := o.rows[o.ownID]; ok {
		rows[o.ownID] = own // what is written next builds on what was read or written for that
	}
	o.rows, o.stale = rows, true
	o.see(o.base, now)
	o.rowsRoster = roster // and not the record's: the answer may be an old one
	o.watches = o.base.LeaderID != "" && o.base.LeaderID == o.ownID && o.base.Term == o.ownTerm
}

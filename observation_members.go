package election

import (
	"cmp"
	"slices"
	"time"
)

// memberSight is what was last seen of one member's entry.
type memberSight struct {
	nonce     string
	renewals  uint64
	renewTime time.Time
	lease     time.Duration
	since     time.Duration // the moment it was last seen to have changed
	first     time.Duration // the moment of first sight
	advances  int           // how often it changed since then
}

// applyMembers takes in the entries in rec, and the member rows if they were read anew. Its cost
// does not grow with the members: if only the own row has changed, and no entry has left the
// record, it looks only at the entries in the record and at the own one.
func (o *observation) applyMembers(rec *Record, now time.Duration) {
	before := o.recordEntries
	o.recordEntries = make(map[string]*Member, len(rec.Members))
	for _, m := range rec.Members {
		o.recordEntries[m.ID] = m
	}
	for id := range before {
		_, stays := o.recordEntries[id]
		o.stale = o.stale || !stays
	}
	if o.stale {
		o.applyAllMembers(now)
		return
	}
	for id := range o.recordEntries {
		o.members[id] = o.applyMember(o.entryOf(id), now)
	}
	if own := o.entryOf(o.ownID); own != nil {
		o.members[o.ownID] = o.applyMember(own, now)
	} else {
		delete(o.members, o.ownID)
	}
}

// applyAllMembers takes in every entry, in the record and in member rows.
func (o *observation) applyAllMembers(now time.Duration) {
	members := make(map[string]memberSight, len(o.recordEntries)+len(o.rows.byID))
	for id := range o.recordEntries {
		members[id] = o.applyMember(o.entryOf(id), now)
	}
	o.rowMembers = make([]shownMember, 0, len(o.rows.byID))
	for id, row := range o.rows.byID {
		if _, inside := o.recordEntries[id]; inside {
			continue
		}
		s := o.applyMember(row, now)
		members[id] = s
		if id != o.ownID {
			o.rowMembers = append(o.rowMembers, s.asShown(row, true))
		}
	}
	slices.SortFunc(o.rowMembers, func(a, b shownMember) int { return cmp.Compare(a.ID, b.ID) })
	o.members, o.stale = members, false
}

func (o *observation) applyMember(m *Member, now time.Duration) memberSight {
	s := o.observeEntry(m, now)
	o.longestLease = max(o.longestLease, s.lease)
	return s
}

// entryOf is the entry of id that counts, of those in the record and in its member row, or nil.
func (o *observation) entryOf(id string) *Member {
	return newerEntry(o.recordEntries[id], o.rows.byID[id])
}

// entryIn is entryOf, with rec as the record.
func (o *observation) entryIn(rec *Record, id string) *Member {
	inside, _ := rec.FindMember(id)
	return newerEntry(inside, o.rows.byID[id])
}

// newerEntry picks between a member's entry in the record and its member row. If both are one
// process's, the one with the higher counter counts. Otherwise the record's counts: its process
// leads, or led.
func newerEntry(inside, row *Member) *Member {
	if inside == nil || row != nil && row.Nonce != "" && row.Nonce == inside.Nonce && row.Renewals > inside.Renewals {
		return row
	}
	return inside
}

// observeEntry compares an entry with what was last seen of it. A four-column version that rewrites
// the record drops the nonce and the counter of every entry: their loss, or return, alone is no
// sign of life.
func (o *observation) observeEntry(m *Member, now time.Duration) memberSight {
	s := memberSight{nonce: m.Nonce, renewals: m.Renewals, renewTime: m.RenewTime, lease: m.lease(o.ownLease), since: now, first: now}
	last, known := o.members[m.ID]
	if !known {
		return s
	}
	if m.Nonce != "" && m.Nonce == last.nonce && m.Renewals < last.renewals {
		return last // an older state of it, in a member row
	}
	s.since, s.first, s.advances = last.since, last.first, last.advances
	counted := m.Nonce != "" && (m.Nonce != last.nonce || m.Renewals != last.renewals)
	restored := last.nonce == "" && m.RenewTime.Equal(last.renewTime)
	if !m.RenewTime.Equal(last.renewTime) || (counted && !restored) {
		s.since, s.advances = now, last.advances+1
	}
	return s
}

// setOwnRow takes in the own member row as it was read; found is empty if there is none.
func (o *observation) setOwnRow(found []*Member, now time.Duration) {
	delete(o.rows.byID, o.ownID)
	for _, m := range found {
		if m.ID == o.ownID {
			o.rows.byID[m.ID] = m
		}
	}
	if o.newest != nil {
		o.applyRecord(o.newest, now)
	}
}

// setMemberRows takes in all member rows, and their checksum.
func (o *observation) setMemberRows(found []*Member, roster uint64, now time.Duration) {
	o.rows.read, o.rows.readAt = true, now
	o.changes++
	if o.newest == nil {
		return
	}
	rows := make(map[string]*Member, len(found))
	for _, m := range found {
		if last, ok := o.rows.byID[m.ID]; ok && last.Nonce == m.Nonce && last.Renewals > m.Renewals {
			m = last // the answer is from a replica that lags
		}
		rows[m.ID] = m
	}
	if own, ok := o.rows.byID[o.ownID]; ok {
		rows[o.ownID] = own // the next write builds on the row that was read or written for it
	}
	o.rows.byID, o.stale = rows, true
	o.applyRecord(o.newest, now)
	o.rows.roster = roster // not the record's: the rows may be older than the record
	o.rows.tracked = o.newest.LeaderID != "" && o.newest.LeaderID == o.ownID && o.newest.Term == o.acquiredTerm
}

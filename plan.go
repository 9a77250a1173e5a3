package election

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// participant is one process's part in the protocol: it says what to write, given the record that
// was just read. Like observation it is a value without I/O and without a clock.
type participant struct {
	observation
	cfg Config // durations and identity only

	joined  bool                // an own entry is known to have been stored
	written ownWrites           // of its own entry
	terms   map[uint64]struct{} // terms this process tried to acquire

	keepsMemberRows bool    // the storage has member rows
	ownRowKnown     bool    // rows holds the own member row as it is stored, as far as this process knows
	lastOwnRow      *Member // the own member row as it was last stored; nil once it was removed
	ownRowEvicted   bool    // the own row was missing after the own lease: the leader may have removed it
	ackedInRecord   bool    // the last entry acknowledged stands in the record
}

func newParticipant(cfg Config, nonce string) participant {
	_, apart := cfg.Storage.(MemberStorage)
	return participant{
		observation:     newObservation(cfg.ID, nonce, cfg.LeaseDuration),
		cfg:             cfg,
		terms:           map[uint64]struct{}{},
		keepsMemberRows: apart, ownRowKnown: !apart,
	}
}

// want is what the elector asks of the next write.
type want struct {
	leap     uint64   // drawn at random for this write, see newEntry
	campaign bool     // may acquire: no callback runs, and nothing holds this member back
	reign    uint64   // the term in which its callback runs or drains; 0 for none
	overrun  bool     // that callback did not return in time: the lease is to lapse
	release  uint64   // the term to be given back; 0 for none
	nominee  *Nominee // whom the release names
	leave    bool     // remove the own entry, and release what is held
	due      bool     // the own entry is to be renewed
}

// write is what a storage call is to store.
type write struct {
	move   move
	record *Record // the new record; nil: the record stays as it is
	own    *Member // the renewed own entry, in the record or in a member row; nil if it is not renewed
	// The own member row as it is, and as it shall be. Nil is no row. Both nil: it stays as it is.
	before, after *Member
}

// writesMemberRow reports whether w creates, changes or removes the own member row.
func (w *write) writesMemberRow() bool { return w.before != nil || w.after != nil }

// move is what a planned write does.
type move int

const (
	moveWait      move = iota // nothing to write
	moveRenew                 // renew the own entry
	moveAcquire               // become leader in a new term
	moveRelease               // give the leadership back
	moveLeave                 // remove the own entry (and release)
	moveLeft                  // nothing left to remove
	moveDuplicate             // another live process has this ID
	moveExhausted             // no term is left above the highest
)

// changesLeader reports whether the write from rec to next changes the leader
// row: every acquisition and release, also by the same ID.
func changesLeader(rec, next *Record) bool {
	return rec.LeaderID != next.LeaderID || rec.Term != next.Term
}

// plan decides on the next write. Rec is the record that was read; it may be older than what was
// seen before. Plan does not change it. What plan remembers of its write (the counter and the term)
// it remembers also if the write is never stored.
func (p *participant) plan(rec *Record, now clock.Instant, w want) write {
	p.written.leap = w.leap
	switch whose := p.classifyOwnEntry(p.entryIn(rec, p.cfg.ID), now.Mono); {
	case whose == entryOwn || p.joined && p.isOld(rec):
		// In an old record the entry of an earlier process proves no rival. A write on that record
		// tells a lagging replica from a history that went back.
	case whose == entryRival || whose == entryCopy:
		return write{move: moveDuplicate}
	case w.leave && !p.isOld(rec):
		return write{move: moveLeft}
	default:
		return write{move: moveWait}
	}
	recorded := p.namesThisProcess(rec)
	mustRelease := w.release == rec.Term || !w.campaign
	next := rec.Clone()
	next.Unguarded = false
	switch {
	case w.overrun && recorded:
		// The callback may still be at work: this member neither renews nor releases.
		return write{move: moveWait}
	case w.leave:
		return p.planLeave(rec, next, recorded, w)
	case recorded && w.reign == rec.Term:
		if !w.due {
			return write{move: moveWait}
		}
		return p.withLeaderEntry(write{move: moveRenew, record: next}, rec, now)
	case recorded && mustRelease,
		p.predecessorLeaseExpired(rec, now.Mono) && (mustRelease || now.Mono < p.noAcquireBefore):
		next.LeaderID, next.Nominee = "", w.nomineeFor(rec.Term)
		return p.withFollowerEntry(write{move: moveRelease, record: next}, rec, now, !w.campaign)
	case w.campaign && !p.isOld(rec) && p.mayAcquire(rec, recorded, now.Mono):
		return p.planAcquisition(rec, next, now)
	}
	return p.planFollower(rec, next, now, w)
}

// planLeave takes this member out: its entry out of the record, and its member row away.
func (p *participant) planLeave(rec, next *Record, recorded bool, w want) write {
	row, inRecord := p.rows.byID[p.cfg.ID], next.remove(p.cfg.ID)
	missing := row == nil && p.lastOwnRow != nil // a replica that lags has answered, or the row was removed
	switch {
	case inRecord || recorded || row != nil:
	case missing:
		row = p.lastOwnRow
	case p.isOld(rec):
		return write{move: moveWait} // rec may be from before this member joined
	default:
		return write{move: moveLeft}
	}
	if recorded {
		next.LeaderID, next.Nominee = "", w.nomineeFor(rec.Term)
	}
	leave := write{move: moveLeave, before: row}
	if missing && row == nil { // the next write removes it: a conflict over the row must not hinder the release
		leave.move = moveRelease
	}
	if inRecord || recorded || p.isOld(rec) { // an old record may not show that this member leads
		leave.record = p.stampHistory(next)
	}
	return leave
}

// nomineeFor is the heir that a release of that term names, or nil.
func (w want) nomineeFor(term uint64) *Nominee {
	if w.release != term {
		return nil
	}
	return w.nominee
}

// predecessorLeaseExpired reports whether rec names an earlier process of this member whose lease
// is over. If this process does not want to lead, or may not acquire yet, it must release the
// leadership: its own renewals under the same ID make the recorded leader look alive to the other
// members. The release is no acquisition. The others acquire after it when they may, as they would
// at the end of that lease.
func (p *participant) predecessorLeaseExpired(rec *Record, now time.Duration) bool {
	return rec.LeaderID == p.cfg.ID && !p.isOld(rec) && now >= p.takeOverAt()
}

// planFollower renews the entry of a member that does not lead. If the record names this member as
// heir and it does not want to lead, it clears the nomination: the others need not wait for it.
func (p *participant) planFollower(rec, next *Record, now clock.Instant, w want) write {
	declines := !w.campaign && p.isThisProcess(next.Nominee)
	if !w.due && !declines {
		return write{move: moveWait}
	}
	renew := write{move: moveRenew}
	if declines {
		next.Nominee = nil
	}
	// The record is written, too, if an earlier process of this member left an entry in it, or if
	// it has to be told of a term floor.
	left, ok := next.FindMember(p.cfg.ID)
	if p.mustRenewInRecord(rec, now.Mono) || declines || ok && left.Nonce != p.ownNonce ||
		p.termFloorFor(next) != next.TermFloor || p.floorLeaseFor(next) != next.FloorLease {
		renew.record = next
	}
	return p.withFollowerEntry(renew, rec, now, !w.campaign)
}

// planAcquisition makes this member the leader, in a term above every term that the record, its
// leader row or this process remembers.
func (p *participant) planAcquisition(rec, next *Record, now clock.Instant) write {
	highest := max(uint64(max(next.Version, 0)), next.Term, next.TermFloor, p.highestTerm)
	if highest >= math.MaxInt64 {
		// The leader row's column ends here. Only a record forged by hand gets this far. Leaving it
		// alone is better than starting over from term 0.
		return write{move: moveExhausted}
	}
	next.LeaderID, next.Term, next.Nominee = p.cfg.ID, highest+1, nil
	p.terms[next.Term] = struct{}{}
	return p.withLeaderEntry(write{move: moveAcquire, record: next}, rec, now)
}

// withLeaderEntry adds to w a fresh entry of this process, which w.record names as leader. It goes
// into the record, where no take-over can overlook a renewal. An acquisition also renews the own
// member row: the acquisition fails if that row is gone, or another process's by now. W also evicts
// the members whose lease is over, and holds what only a leader knows (Roster).
func (p *participant) withLeaderEntry(w write, rec *Record, now clock.Instant) write {
	apart := !p.mustRenewInRecord(rec, now.Mono)
	p.evictExpired(w.record, apart, now.Mono)
	if p.rows.tracked {
		w.record.Roster = p.rows.roster
	}
	w.own = p.newEntry(now, false)
	w.record.put(w.own)
	switch {
	case !apart:
		w.before = p.predecessorRow(rec)
	case w.move == moveAcquire:
		w.before, w.after = p.rows.byID[p.cfg.ID], w.own
	}
	p.stampHistory(w.record)
	return w
}

// withFollowerEntry adds to w a fresh entry of this process, which does not lead. It goes into the
// own member row, unless it must go into the record.
func (p *participant) withFollowerEntry(w write, rec *Record, now clock.Instant, declines bool) write {
	w.own = p.newEntry(now, declines)
	switch {
	case p.mustRenewInRecord(rec, now.Mono):
		w.record.put(w.own)
		w.before = p.predecessorRow(rec)
	default:
		w.before, w.after = p.rows.byID[p.cfg.ID], w.own
		if w.record != nil {
			w.record.remove(p.cfg.ID)
		}
	}
	if w.record != nil {
		p.stampHistory(w.record)
	}
	return w
}

// mayAcquire reports whether this process may acquire the leadership. Recorded says that rec names
// this process already.
func (p *participant) mayAcquire(rec *Record, recorded bool, now time.Duration) bool {
	switch {
	case now < p.noAcquireBefore:
		return false
	case recorded:
		// The record names a reign of this process that is over, or whose acquisition was not
		// acknowledged. No other process can hold it.
		return true
	case rec.LeaderID == "":
		return rec.Nominee == nil || p.isThisProcess(rec.Nominee) || now >= p.nominee.since+p.cfg.RenewInterval
	}
	return now >= p.takeOverAt()
}

// rank is how many members come before this one when the leadership is free. All members that see
// the same members rank them alike, and in another order in each term. So a thousand candidates do
// not write at once.
func (p *participant) rank() (before int) {
	if p.newest == nil || p.isThisProcess(p.newest.Nominee) {
		return 0
	}
	own := drawLot(p.cfg.ID, p.highestTerm)
	for id := range p.members {
		if id != p.newest.LeaderID && drawLot(id, p.highestTerm) < own {
			before++
		}
	}
	return before
}

func drawLot(id string, term uint64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.LittleEndian.AppendUint64([]byte(id), term)) // never fails
	return h.Sum64()
}

// mayAcquireAt is the moment from which mayAcquire may be true for the newest record seen.
func (p *participant) mayAcquireAt() time.Duration {
	switch rec := p.newest; {
	case rec == nil || p.namesThisProcess(rec):
		return p.noAcquireBefore
	case rec.LeaderID == "":
		if rec.Nominee == nil || p.isThisProcess(rec.Nominee) {
			return p.noAcquireBefore
		}
		return max(p.noAcquireBefore, p.nominee.since+p.cfg.RenewInterval)
	}
	return max(p.noAcquireBefore, p.takeOverAt())
}

// ownExpiry is the moment at which this process may replace the entry of an earlier process with
// its ID; 0 if there is none.
func (p *participant) ownExpiry() time.Duration {
	if s, ok := p.members[p.cfg.ID]; ok && s.nonce != p.ownNonce && !p.joined {
		return s.since + s.lease
	}
	return 0
}

// namesThisProcess reports whether rec names this process as leader: by ID, in a term that it tried
// to acquire. (Whether another process uses the ID, classifyOwnEntry tells.)
func (p *participant) namesThisProcess(rec *Record) bool {
	_, own := p.terms[rec.Term]
	return own && rec.LeaderID == p.cfg.ID
}

// isThisProcess reports whether n is this process.
func (p *participant) isThisProcess(n *Nominee) bool {
	return n != nil && n.ID == p.cfg.ID && (n.Nonce == "" || n.Nonce == p.ownNonce)
}

// evictExpired drops from next the members whose lease is over here. If members renew in member
// rows (apart), it also drops those that have a row by now. Only a leader evicts.
func (p *participant) evictExpired(next *Record, apart bool, now time.Duration) {
	next.Members = slices.DeleteFunc(next.Members, func(m *Member) bool {
		row, ok := p.rows.byID[m.ID]
		moved := apart && ok && row.Nonce == m.Nonce && row.Renewals >= m.Renewals
		return m.ID != p.cfg.ID && m.ID != next.LeaderID && (moved || p.expired(m.ID, now))
	})
}

// expiredMemberRows returns the member rows that have stood still for their whole lease, as they
// were read. A leader may remove them. It is nil on a follower.
func (p *participant) expiredMemberRows(now time.Duration) (rows []*Member) {
	if !p.rows.tracked {
		return nil
	}
	for id, row := range p.rows.byID {
		if id != p.cfg.ID && p.expired(id, now) {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b *Member) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// handleConflict takes in that w lost against another write: nothing of w is stored.
func (p *participant) handleConflict(w *write) {
	if w.move == moveLeave && w.record == nil {
		p.lastOwnRow = nil
	}
	p.forgetOwnRow(w)
}

// forgetOwnRow has the own member row read again after w, if w was to write it: w may have changed
// the row, or another write did.
func (p *participant) forgetOwnRow(w *write) {
	if w.writesMemberRow() {
		p.ownRowKnown = false
	}
}

// handleStored takes in a write of this process that the storage has acknowledged.
func (p *participant) handleStored(w *write, now time.Duration) {
	rec := p.newest
	if w.record != nil {
		rec = w.record
		rec.Version++
	}
	if w.move == moveAcquire {
		clear(p.terms) // earlier attempts can no longer be stored
		p.terms[rec.Term] = struct{}{}
		p.acquiredTerm = rec.Term
	}
	switch {
	case w.after != nil:
		p.rows.byID[p.cfg.ID], p.lastOwnRow, p.ownRowEvicted = w.after, w.after, false
	case w.before != nil:
		delete(p.rows.byID, p.cfg.ID)
		p.lastOwnRow = nil
	}
	if rec != nil {
		p.applyRecord(rec, now)
	}
	p.joined = w.move != moveLeave
	if w.own != nil {
		p.written.acked = ownWrite{renewals: w.own.Renewals, renewTime: w.own.RenewTime}
		p.ackedInRecord = false
		if w.record != nil {
			_, p.ackedInRecord = w.record.FindMember(p.cfg.ID)
		}
	}
}

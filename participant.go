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

// participant is one process's part in the protocol: it says what to write, given
// the record that was just read. Like observation it is a value without I/O and
// without a clock.
type participant struct {
	observation
	cfg Config // durations and identity only

	joined bool                // an own entry is known to have been stored
	leap   uint64              // for the next entry: see entry
	writes uint64              // entries written so far
	last   ownWrite            // the last entry written
	acked  ownWrite            // the last one acknowledged
	recent [32]ownWrite        // the last ones written: of each the outcome may be unknown
	terms  map[uint64]struct{} // terms this process tried to acquire

	apart   bool    // the storage can keep members' entries apart from the record
	ownRead bool    // rows tells what is kept there under the own ID, if it can
	kept    *Member // the own entry as it was last stored apart, until it was removed
	evicted bool    // nothing was, because the own lease was over
	inside  bool    // the last entry acknowledged stands in the record
}

func newParticipant(cfg Config, nonce string) participant {
	_, apart := cfg.Storage.(MemberStorage)
	return participant{
		observation: newObservation(cfg.ID, nonce, cfg.LeaseDuration),
		cfg:         cfg,
		terms:       map[uint64]struct{}{},
		apart:       apart, ownRead: !apart,
	}
}

// want is what the elector asks of the next write.
type want struct {
	leap     uint64   // drawn at random for this write: see entry
	campaign bool     // may acquire: no callback runs, nothing keeps it back
	reign    uint64   // the term in which its callback runs or drains; 0 for none
	overrun  bool     // that callback did not return: let the lease lapse
	release  uint64   // the term to be given back; 0 for none
	nominee  *Nominee // whom the release names
	leave    bool     // remove the own entry, and release what is held
	due      bool     // the own entry is to be renewed
}

// write is what a storage call is to store.
type write struct {
	move   move
	record *Record // instead of the one it was planned on; nil: that stays as it is
	own    *Member // the renewed own entry, wherever it goes; nil if it does not
	// The entry that is kept apart, as it is and as it shall be; both nil: it stays
	// as it is.
	before, after *Member
}

// apart reports whether w writes an entry that is kept apart.
func (w *write) apart() bool { return w.before != nil || w.after != nil }

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

// plan decides on the next write. rec is the record that was read, without what is
// kept apart; it may be older than what was seen before, and is left as it is.
func (p *participant) plan(rec *Record, now clock.Instant, w want) write {
	p.leap = w.leap
	switch whose := p.identify(p.entryIn(rec, p.cfg.ID), now.Mono); {
	case whose == entryOwn || p.joined && p.isOld(rec):
		// Under an old record an entry of an earlier process proves no rival.
		// Writing on it tells a lagging replica from a history that went back.
	case whose == entryRival || whose == entryClone:
		return write{move: moveDuplicate}
	case w.leave && !p.isOld(rec):
		return write{move: moveLeft}
	default:
		return write{move: moveWait}
	}
	recorded := p.recorded(rec)
	next := rec.Clone()
	next.Unguarded = false
	switch {
	case w.overrun && recorded:
		// The callback may still be at work: neither renew nor release.
		return write{move: moveWait}
	case w.leave:
		return p.leaving(rec, next, recorded, w)
	case recorded && w.reign == rec.Term:
		if !w.due {
			return write{move: moveWait}
		}
		return p.reigning(write{move: moveRenew, record: next}, rec, now)
	case (recorded || p.outlived(rec, now.Mono)) && (w.release == rec.Term || !w.campaign):
		next.LeaderID, next.Nominee = "", w.nomineeFor(rec.Term)
		return p.renewed(write{move: moveRelease, record: next}, rec, now, !w.campaign)
	case w.campaign && !p.isOld(rec) && p.free(rec, recorded, now.Mono):
		return p.acquisition(rec, next, now)
	}
	return p.following(rec, next, now, w)
}

// leaving takes this member out of the record and of what is kept apart.
func (p *participant) leaving(rec, next *Record, recorded bool, w want) write {
	row, inRecord := p.rows[p.cfg.ID], next.remove(p.cfg.ID)
	missing := row == nil && p.kept != nil // read from a replica that lags, or removed
	switch {
	case inRecord || recorded || row != nil:
	case missing:
		row = p.kept
	case p.isOld(rec):
		return write{move: moveWait} // it may be from before this member joined
	default:
		return write{move: moveLeft}
	}
	if recorded {
		next.LeaderID, next.Nominee = "", w.nomineeFor(rec.Term)
	}
	leave := write{move: moveLeave, before: row}
	if missing && row == nil { // that is for the next write, lest its conflict keep us from releasing
		leave.move = moveRelease
	}
	if inRecord || recorded || p.isOld(rec) { // an old one may not show that we lead
		leave.record = p.remember(next)
	}
	return leave
}

// nomineeFor is whom a release of that term names.
func (w want) nomineeFor(term uint64) *Nominee {
	if w.release != term {
		return nil
	}
	return w.nominee
}

// outlived reports whether rec names an earlier process of this member whose
// lease is over. If this one does not want to lead it must release the
// leadership: its own renewals make the recorded leader look alive to the others.
func (p *participant) outlived(rec *Record, now time.Duration) bool {
	return rec.LeaderID == p.cfg.ID && !p.isOld(rec) && p.free(rec, false, now)
}

// following renews the entry of a member that does not lead. One that was named
// to lead and will not clears the nomination, so that the others need not wait.
func (p *participant) following(rec, next *Record, now clock.Instant, w want) write {
	declines := !w.campaign && p.named(next.Nominee)
	if !w.due && !declines {
		return write{move: moveWait}
	}
	renew := write{move: moveRenew}
	if declines {
		next.Nominee = nil
	}
	// What an earlier process of this member left in the record, and what the record
	// has to be told, are reasons to write it.
	left, ok := next.FindMember(p.cfg.ID)
	if p.together(rec, now.Mono) || declines || ok && left.Nonce != p.ownNonce ||
		p.floor(next) != next.TermFloor || p.floorLease(next) != next.FloorLease {
		renew.record = next
	}
	return p.renewed(renew, rec, now, !w.campaign)
}

// acquisition makes this member the leader, in a term above every term that the
// record, its leader row or this process remembers.
func (p *participant) acquisition(rec, next *Record, now clock.Instant) write {
	highest := max(uint64(max(next.Version, 0)), next.Term, next.TermFloor, p.term)
	if highest >= math.MaxInt64 {
		// The leader row's column ends here. Only a record forged by hand gets
		// this far; leaving it alone beats starting over from term 0.
		return write{move: moveExhausted}
	}
	next.LeaderID, next.Term, next.Nominee = p.cfg.ID, highest+1, nil
	p.terms[next.Term] = struct{}{}
	return p.reigning(write{move: moveAcquire, record: next}, rec, now)
}

// reigning renews the entry of the leader that w.record names: in the record, so
// that no take-over can overlook a renewal. An acquisition also renews what is
// kept apart: it fails if that is gone, or another process's by now.
func (p *participant) reigning(w write, rec *Record, now clock.Instant) write {
	apart := !p.together(rec, now.Mono)
	p.evict(w.record, apart, now.Mono)
	if p.watches {
		w.record.Roster = p.rowsRoster
	}
	w.own = p.entry(now, false)
	w.record.put(w.own)
	switch {
	case !apart:
		w.before = p.leftover(rec)
	case w.move == moveAcquire:
		w.before, w.after = p.rows[p.cfg.ID], w.own
	}
	p.remember(w.record)
	return w
}

// renewed adds to w a fresh own entry of a member that does not lead: kept apart,
// where that can be.
func (p *participant) renewed(w write, rec *Record, now clock.Instant, declines bool) write {
	w.own = p.entry(now, declines)
	switch {
	case p.together(rec, now.Mono):
		w.record.put(w.own)
		w.before = p.leftover(rec)
	default:
		w.before, w.after = p.rows[p.cfg.ID], w.own
		if w.record != nil {
			w.record.remove(p.cfg.ID)
		}
	}
	if w.record != nil {
		p.remember(w.record)
	}
	return w
}

// free reports whether the leadership may be taken.
func (p *participant) free(rec *Record, recorded bool, now time.Duration) bool {
	switch {
	case now < p.barred:
		return false
	case recorded:
		// A reign of this process that is over, or one whose acquisition it does
		// not know to have been stored: nobody else can hold it.
		return true
	case rec.LeaderID == "":
		return rec.Nominee == nil || p.named(rec.Nominee) || now >= p.nominee.since+p.cfg.RenewInterval
	}
	return now >= p.takeOverAt()
}

// rank is how many members come before this one when the leadership is free, in an
// order that is the same for all who see the same members, and another one in each
// term: so that a thousand candidates do not write at once.
func (p *participant) rank() (before int) {
	if p.base == nil || p.named(p.base.Nominee) {
		return 0
	}
	own := drawLot(p.cfg.ID, p.term)
	for id := range p.members {
		if id != p.base.LeaderID && drawLot(id, p.term) < own {
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

// freeAt is the moment from which free may hold for the newest record seen.
func (p *participant) freeAt() time.Duration {
	switch rec := p.base; {
	case rec == nil || p.recorded(rec):
		return p.barred
	case rec.LeaderID == "":
		if rec.Nominee == nil || p.named(rec.Nominee) {
			return p.barred
		}
		return max(p.barred, p.nominee.since+p.cfg.RenewInterval)
	}
	return max(p.barred, p.takeOverAt())
}

// ownExpiry is the moment at which an entry of an earlier process with this ID
// may be replaced; 0 if there is none.
func (p *participant) ownExpiry() time.Duration {
	if s, ok := p.members[p.cfg.ID]; ok && s.nonce != p.ownNonce && !p.joined {
		return s.since + s.lease
	}
	return 0
}

// recorded reports whether rec names this process as leader: by ID, in a term
// that it tried to acquire. (That the ID is its own is for identify to say.)
func (p *participant) recorded(rec *Record) bool {
	_, own := p.terms[rec.Term]
	return own && rec.LeaderID == p.cfg.ID
}

// named reports whether n is this process.
func (p *participant) named(n *Nominee) bool {
	return n != nil && n.ID == p.cfg.ID && (n.Nonce == "" || n.Nonce == p.ownNonce)
}

// evict drops from the record the members whose lease is over here, and if members
// renew apart, those that do so by now. Only a leader does either.
func (p *participant) evict(next *Record, apart bool, now time.Duration) {
	next.Members = slices.DeleteFunc(next.Members, func(m *Member) bool {
		row, ok := p.rows[m.ID]
		moved := apart && ok && row.Nonce == m.Nonce && row.Renewals >= m.Renewals
		return m.ID != p.cfg.ID && m.ID != next.LeaderID && (moved || p.expired(m.ID, now))
	})
}

// silent returns the entries kept apart, as they were read, that a leader may
// remove: they have stood still for their whole lease.
func (p *participant) silent(now time.Duration) (rows []*Member) {
	if !p.watches {
		return nil
	}
	for id, row := range p.rows {
		if id != p.cfg.ID && p.expired(id, now) {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b *Member) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// refused takes in that w lost against another write: nothing of it is stored.
func (p *participant) refused(w *write) {
	if w.move == moveLeave && w.record == nil {
		p.kept = nil
	}
	p.unsure(w)
}

// unsure has what is kept apart under the own ID read again, if w may have changed
// it, or was refused because another write did.
func (p *participant) unsure(w *write) {
	if w.apart() {
		p.ownRead = false
	}
}

// stored takes in a write of our own that the storage has acknowledged.
func (p *participant) stored(w *write, now time.Duration) {
	rec := p.base
	if w.record != nil {
		rec = w.record
		rec.Version++
	}
	if w.move == moveAcquire {
		clear(p.terms) // earlier attempts can no longer be stored
		p.terms[rec.Term] = struct{}{}
		p.ownTerm = rec.Term
	}
	switch {
	case w.after != nil:
		p.rows[p.cfg.ID], p.kept, p.evicted = w.after, w.after, false
	case w.before != nil:
		delete(p.rows, p.cfg.ID)
		p.kept = nil
	}
	if rec != nil {
		p.see(rec, now)
	}
	p.joined = w.move != moveLeave
	if w.own != nil {
		p.acked = ownWrite{renewals: w.own.Renewals, renewTime: w.own.RenewTime}
		p.inside = false
		if w.record != nil {
			_, p.inside = w.record.FindMember(p.cfg.ID)
		}
	}
}

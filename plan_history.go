package election

import "time"

// termFloorFor is the term floor that next must hold. What next already holds counts, too: an old
// record may remember higher terms than this process does.
func (p *participant) termFloorFor(next *Record) uint64 {
	if floor := max(p.highestTerm, next.TermFloor); floor > next.Term {
		return floor
	}
	return 0
}

// floorLeaseFor is how long a process that first reads of that floor has to wait before it
// acquires.
func (p *participant) floorLeaseFor(next *Record) time.Duration {
	if p.termFloorFor(next) == 0 {
		return 0
	}
	return max(p.longestLease, min(next.FloorLease, MaxLeaseDuration))
}

// stampHistory writes into next what this process remembers of terms and of the history.
func (p *participant) stampHistory(next *Record) *Record {
	next.TermFloor, next.FloorLease = p.termFloorFor(next), p.floorLeaseFor(next)
	switch {
	case next.Version == 0:
		next.History = p.ownNonce
	case next.History == "": // a four-column version dropped it
		next.History = p.history
	}
	return next
}

// lossCause returns nil while rec still names this process's reign of that term, else the cause of
// the reign's end. Rec must not be old.
func (p *participant) lossCause(rec *Record, term uint64, now time.Duration) error {
	back := p.wentBack(rec, now)
	switch {
	case rec.LeaderID == p.cfg.ID && rec.Term == term && !rec.Unguarded && !back:
		return nil
	case rec.LeaderID == p.cfg.ID || back:
		return ErrHistoryLost
	}
	return ErrLeaseExpired
}

// wentBack reports whether rec is of another history than the one seen, although its version is not
// older: history went back, and has grown past the version seen since. Signs of that are:
//
//   - another process has created the record;
//   - the term is lower;
//   - the own entry is older than one that was acknowledged in the record;
//   - the own entry is missing, and no leader had a reason to evict it.
func (p *participant) wentBack(rec *Record, now time.Duration) bool {
	own, ok := rec.FindMember(p.cfg.ID)
	switch {
	case rec.Term < p.leader.term, rec.History != "" && p.history != "" && rec.History != p.history:
		return true
	case !p.ackedInRecord || !p.ownRowKnown: // the entry may be in a member row by now
		return false
	case ok:
		return own.Nonce == p.ownNonce && own.Renewals < p.written.acked.renewals
	}
	return p.joined && !p.expired(p.cfg.ID, now)
}

// provesLoss reports whether the write w, planned on base, can be stored only if history went back.
// That is so in three cases: base is old; the own entry that w replaces is old; or that entry is
// gone, and no leader had a reason to remove it.
func (p *participant) provesLoss(w *write, base *Record) bool {
	switch {
	case w.record != nil && p.isOld(base):
		return true
	case !p.joined || p.ackedInRecord || !w.writesMemberRow():
		return false
	case w.before == nil:
		return !p.ownRowEvicted
	}
	return w.before.Nonce == p.ownNonce && w.before.Renewals < p.written.acked.renewals
}

// noteProof has this process remember a write that proves a loss of history if it is found stored:
// its acknowledgement may be lost.
func (p *participant) noteProof(w *write, base *Record) {
	if w.own == nil || !p.provesLoss(w, base) {
		return
	}
	p.written.markProof(w.own.Renewals)
}

// provedLoss reports whether such a write is found stored: in rec, or in the own member row.
func (p *participant) provedLoss(rec *Record) bool {
	own := p.entryIn(rec, p.cfg.ID)
	return own != nil && own.Nonce == p.ownNonce && p.written.isProof(own.Renewals)
}

// rejoinAsNewcomer makes this process a newcomer to a history that is not the one it saw.
func (p *participant) rejoinAsNewcomer(now time.Duration) {
	p.loseHistory(now)
	p.written.clearProofs() // what they prove is known
	p.joined, p.ackedInRecord, p.ownRowKnown, p.lastOwnRow = false, false, !p.keepsMemberRows, nil
}

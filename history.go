package election

import (
	"slices"
	"time"
)

// floor is the term floor that next must hold: an old record may remember more
// than we do.
func (p *participant) floor(next *Record) uint64 {
	if floor := max(p.term, next.TermFloor); floor > next.Term {
		return floor
	}
	return 0
}

// floorLease is for how long whoever first reads of that floor shall wait.
func (p *participant) floorLease(next *Record) time.Duration {
	if p.floor(next) == 0 {
		return 0
	}
	return max(p.longest, min(next.FloorLease, MaxLeaseDuration))
}

// remember lets the record remember what this process does.
func (p *participant) remember(next *Record) *Record {
	next.TermFloor, next.FloorLease = p.floor(next), p.floorLease(next)
	switch {
	case next.Version == 0:
		next.History = p.ownNonce
	case next.History == "": // an older member dropped it
		next.History = p.history
	}
	return next
}

// lost returns nil while rec, which is not old, still records this process's
// reign of that term, else the cause of its end.
func (p *participant) lost(rec *Record, term uint64, now time.Duration) error {
	back := p.wentBack(rec, now)
	switch {
	case rec.LeaderID == p.cfg.ID && rec.Term == term && !rec.Unguarded && !back:
		return nil
	case rec.LeaderID == p.cfg.ID || back:
		return ErrHistoryLost
	}
	return ErrLeaseExpired
}

// wentBack reports whether rec, although not old, is of another history than the
// one seen: that went back, and has since grown past the version seen. Then it was
// created by another process, its term is lower, or our own entry is older than one
// that was acknowledged there, or missing though nobody had a reason to evict it.
func (p *participant) wentBack(rec *Record, now time.Duration) bool {
	own, ok := rec.FindMember(p.cfg.ID)
	switch {
	case rec.Term < p.leader.term, rec.History != "" && p.history != "" && rec.History != p.history:
		return true
	case !p.inside || !p.ownRead: // it may be kept apart by now
		return false
	case ok:
		return own.Nonce == p.ownNonce && own.Renewals < p.acked.renewals
	}
	return p.joined && !p.expired(p.cfg.ID, now)
}

// provesLoss reports whether w, planned on base, could be stored only because
// history went back: base was old, or so was the own entry that it replaced, or
// that was gone though nobody had a reason to remove it.
func (p *participant) provesLoss(w *write, base *Record) bool {
	switch {
	case w.record != nil && p.isOld(base):
		return true
	case !p.joined || p.inside || !w.apart():
		return false
	case w.before == nil:
		return !p.evicted
	}
	return w.before.Nonce == p.ownNonce && w.before.Renewals < p.acked.renewals
}

// note has this process remember that the write w, planned on base, will have proved a loss
// of history, should it find it stored: its acknowledgement may be lost.
func (p *participant) note(w *write, base *Record) {
	if w.own == nil || !p.provesLoss(w, base) {
		return
	}
	for i := range p.recent {
		p.recent[i].proves = p.recent[i].proves || p.recent[i].renewals == w.own.Renewals
	}
}

// provedLoss reports whether the own entry in rec, or apart from it, is of such a write.
func (p *participant) provedLoss(rec *Record) bool {
	own := p.entryIn(rec, p.cfg.ID)
	return own != nil && own.Nonce == p.ownNonce && slices.ContainsFunc(p.recent[:], func(w ownWrite) bool {
		return w.proves && w.renewals == own.Renewals
	})
}

// forget makes this process a newcomer to a history that is not the one it saw.
func (p *participant) forget(now time.Duration) {
	p.loseHistory(now)
	for i := range p.recent {
		p.recent[i].proves = false // what they prove is known
	}
	p.joined, p.inside, p.ownRead, p.kept = false, false, !p.apart, nil
}

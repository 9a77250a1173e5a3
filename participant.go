package election

import (
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

	joined   bool                // an own entry is known to have been stored
	renewals uint64              // of the last entry written
	acked    uint64              // of the last entry acknowledged
	written  time.Time           // RenewTime of the last entry written
	recent   [16]time.Time       // RenewTimes of the last entries written, and
	ackedAt  time.Time           // of the last one acknowledged, for entries stripped of their nonce
	terms    map[uint64]struct{} // terms this process tried to acquire
}

func newParticipant(cfg Config, nonce string) participant {
	return participant{
		observation: newObservation(cfg.ID, nonce, cfg.LeaseDuration),
		cfg:         cfg,
		terms:       map[uint64]struct{}{},
	}
}

// want is what the elector asks of the next write.
type want struct {
	campaign bool     // may acquire: no callback runs, nothing keeps it back
	reign    uint64   // the term in which its callback runs or drains; 0 for none
	overrun  bool     // that callback did not return: let the lease lapse
	release  uint64   // the term to be given back; 0 for none
	nominee  *Nominee // whom the release names
	leave    bool     // remove the own entry, and release what is held
	due      bool     // the own entry is to be renewed
}

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

// plan decides on the next write, and returns the record to store. rec is what
// was read, which may be older than what was seen before; it is left as it is.
func (p *participant) plan(rec *Record, now clock.Instant, w want) (*Record, move) {
	own, _ := rec.FindMember(p.cfg.ID)
	switch whose := p.identify(own, now.Mono); {
	case whose == entryOwn || p.joined && p.isOld(rec):
		// Under an old record an entry of an earlier process proves no rival.
		// Writing on it tells a lagging replica from a history that went back.
	case whose == entryRival:
		return nil, moveDuplicate
	case w.leave && !p.isOld(rec):
		return nil, moveLeft
	default:
		return nil, moveWait
	}
	recorded := p.recorded(rec)
	next := rec.Clone()
	next.Unguarded = false
	switch {
	case w.overrun && recorded:
		// The callback may still be at work: neither renew nor release.
		return nil, moveWait
	case w.leave:
		if own == nil && !recorded {
			if p.isOld(rec) {
				return nil, moveWait // it may be from before this member joined
			}
			return nil, moveLeft
		}
		next.remove(p.cfg.ID)
		if recorded {
			next.LeaderID, next.Nominee = "", w.nomineeFor(rec.Term)
		}
		return p.raiseFloor(next), moveLeave
	case recorded && w.reign == rec.Term:
		if !w.due {
			return nil, moveWait
		}
		p.evict(next, now.Mono)
		return p.renewed(next, now, false), moveRenew
	case (recorded || p.outlived(rec, now.Mono)) && (w.release == rec.Term || !w.campaign):
		next.LeaderID, next.Nominee = "", w.nomineeFor(rec.Term)
		return p.renewed(next, now, !w.campaign), moveRelease
	case w.campaign && !p.isOld(rec) && p.free(rec, recorded, now.Mono):
		return p.acquisition(next, now)
	}
	return p.following(next, now, w)
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
func (p *participant) following(next *Record, now clock.Instant, w want) (*Record, move) {
	declines := !w.campaign && p.named(next.Nominee)
	if !w.due && !declines {
		return nil, moveWait
	}
	if declines {
		next.Nominee = nil
	}
	return p.renewed(next, now, !w.campaign), moveRenew
}

// acquisition makes this member the leader, in a term above every term that the
// record, its leader row or this process remembers.
func (p *participant) acquisition(next *Record, now clock.Instant) (*Record, move) {
	highest := max(uint64(max(next.Version, 0)), next.Term, next.TermFloor, p.term)
	if highest >= math.MaxInt64 {
		// The leader row's column ends here. Only a record forged by hand gets
		// this far; leaving it alone beats starting over from term 0.
		return nil, moveExhausted
	}
	next.LeaderID, next.Term, next.Nominee = p.cfg.ID, highest+1, nil
	p.terms[next.Term] = struct{}{}
	p.evict(next, now.Mono)
	return p.renewed(next, now, false), moveAcquire
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

// freeAt is the moment from which free may hold for the newest record seen.
func (p *participant) freeAt() time.Duration {
	switch rec := p.record; {
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

// evict drops the members whose lease is over here. Only a leader does so.
func (p *participant) evict(next *Record, now time.Duration) {
	next.Members = slices.DeleteFunc(next.Members, func(m *Member) bool {
		return m.ID != p.cfg.ID && m.ID != next.LeaderID && p.expired(m.ID, now)
	})
}

// renewed puts a fresh own entry into next.
func (p *participant) renewed(next *Record, now clock.Instant, declines bool) *Record {
	p.renewals++
	wall := now.Time().UTC()
	if !wall.After(p.written) {
		wall = p.written.Add(time.Nanosecond) // a frozen or stepped-back clock
	}
	p.written = wall
	p.recent[p.renewals%uint64(len(p.recent))] = wall
	next.put(&Member{
		ID: p.cfg.ID, Name: p.cfg.Name, Address: p.cfg.Address,
		LeaseDuration: p.cfg.LeaseDuration, RenewTime: wall, Labels: p.cfg.Labels,
		Nonce: p.ownNonce, Renewals: p.renewals, Declines: declines,
	})
	return p.raiseFloor(next)
}

// raiseFloor lets the record remember what this process does.
func (p *participant) raiseFloor(next *Record) *Record {
	floor := max(p.term, next.TermFloor) // an old record may remember more than we do
	next.TermFloor = 0
	if floor > next.Term {
		next.TermFloor = floor
	}
	return next
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
// one seen: that went back, and has since grown past the version seen. Then its
// term is lower, or our own entry is older than one that was acknowledged, or it
// is missing though nobody had a reason to evict it.
func (p *participant) wentBack(rec *Record, now time.Duration) bool {
	own, ok := rec.FindMember(p.cfg.ID)
	switch {
	case rec.Term < p.leader.term:
		return true
	case ok:
		return own.Nonce == p.ownNonce && own.Renewals < p.acked
	}
	return p.joined && !p.expired(p.cfg.ID, now)
}

// replaced reports whether rec, although this member has joined, holds an entry of
// another process with its ID. With a reign at stake that is a rival. Without one
// it may also be an earlier process's entry in a restored record: this member
// starts anew, and learns whether the other one lives.
func (p *participant) replaced(rec *Record, now time.Duration) bool {
	own, ok := rec.FindMember(p.cfg.ID)
	return ok && p.joined && p.identify(own, now) == entryRival
}

// forget makes this process a newcomer to a history that is not the one it saw.
func (p *participant) forget(now time.Duration) {
	p.loseHistory(now)
	p.joined = false
}

// refused takes in that next lost against another write: nothing of it is stored,
// so its counter may be used again.
func (p *participant) refused(next *Record) {
	if own, ok := next.FindMember(p.cfg.ID); ok && own.Renewals == p.renewals {
		p.renewals--
	}
}

// stored takes in a record of our own that the storage has acknowledged.
func (p *participant) stored(next *Record, m move, now time.Duration) {
	next.Version++
	if m == moveAcquire {
		clear(p.terms) // earlier attempts can no longer be stored
		p.terms[next.Term] = struct{}{}
		p.ownTerm = next.Term
	}
	p.see(next, now)
	p.joined = m != moveLeave
	p.acked, p.ackedAt = p.renewals, p.written
}

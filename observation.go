package election

import (
	"encoding/json"
	"hash/fnv"
	"time"
)

// observation is the follower's half of the safety argument: what one process
// has seen of an election, and since when on its own monotonic clock. It is a
// value without I/O and without a clock: every moment is a parameter.
//
// A lease is judged only by how long an entry stood still here. Moments are taken
// with the reply in hand, never before the read was sent: an entry that changed
// during the read then counts as renewed at its end, which can only lengthen
// the wait.
type observation struct {
	ownID, ownNonce string
	ownLease        time.Duration

	base    *Record       // the newest record seen; nil before the first
	history string        // the last one seen, whoever dropped it since
	term    uint64        // the highest term seen
	longest time.Duration // the longest lease seen, our own included
	barred  time.Duration // history was lost: no acquisition before this moment
	ownTerm uint64        // the last term that this process is known to have acquired

	// What is kept apart, by ID, and when all of it was last read, with what roster.
	rows       map[string]*Member
	rowsRead   bool
	rowsAt     time.Duration
	rowsRoster uint64
	watches    bool // all of it was read in the reign of this process that lasts
	changes    int  // of what show shows

	leader  reignSight
	nominee nomineeSight
	members map[string]sighting // everybody's, in the record or apart
	entries map[string]*Member  // those in base, by ID
	others  []seenMember        // who is in rows, but not in base, nor this member; sorted by ID, and never changed
	stale   bool                // rows were replaced since members and others were made of them
}

// reignSight is the recorded reign and the last moment at which it gave a sign
// of life: it began, its entry changed, or its entry vanished.
type reignSight struct {
	id    string
	term  uint64
	since time.Duration
	lease time.Duration // the longest under which its entry was seen; 0 if none was
	there bool          // its entry stands in the record, where every renewal of a reign is
}

type nomineeSight struct {
	Nominee
	since time.Duration
}

func newObservation(id, nonce string, lease time.Duration) observation {
	return observation{ownID: id, ownNonce: nonce, ownLease: lease, longest: lease, members: map[string]sighting{},
		rows: map[string]*Member{}}
}

// version is the newest version seen, 0 before the first.
func (o *observation) version() int64 {
	if o.base == nil {
		return 0
	}
	return o.base.Version
}

// isOld reports whether rec is older than what was seen before: a lagging
// replica's answer, or a history that went back. It renews nobody's lease.
func (o *observation) isOld(rec *Record) bool { return rec.Version < o.version() }

// hear takes in the terms that a record tells of, an old one too: another member
// may have told it of terms that are gone from it otherwise. If such a term is
// news, its reign may still last, and the longest lease is waited for that this
// process has seen, or that the record shows or tells of.
func (o *observation) hear(rec *Record, now time.Duration) {
	if rec.TermFloor > max(rec.Term, o.term) {
		o.longest = max(o.longest, min(rec.FloorLease, MaxLeaseDuration))
		for _, m := range rec.Members {
			o.longest = max(o.longest, m.lease(o.ownLease))
		}
		o.barred = now + o.longest
	}
	o.term = max(o.term, rec.Term, rec.TermFloor)
}

// see takes in a record that is not old. It keeps rec.
func (o *observation) see(rec *Record, now time.Duration) {
	o.hear(rec, now)
	o.base = rec
	o.changes++
	if rec.History != "" {
		o.history = rec.History
	}
	o.watches = o.watches && rec.LeaderID == o.ownID && rec.Term == o.ownTerm
	last := o.members[rec.LeaderID]
	o.seeMembers(rec, now)
	o.seeLeader(rec, o.members[rec.LeaderID], last, now)
	if rec.Nominee == nil {
		o.nominee = nomineeSight{}
	} else if o.nominee.Nominee != *rec.Nominee {
		o.nominee = nomineeSight{*rec.Nominee, now}
	}
}

// seeLeader keeps the moment of the recorded reign's last sign of life. Where
// the record names this member in a reign of an earlier process, only that
// process's entry is a sign of it; our own is not.
func (o *observation) seeLeader(rec *Record, entry, last sighting, now time.Duration) {
	_, there := o.entries[rec.LeaderID] // a member row is no sign of its reign
	wasThere := o.leader.there
	ofAnother := rec.LeaderID == o.ownID && entry.nonce == o.ownNonce && rec.Term != o.ownTerm
	switch {
	case o.leader.id != rec.LeaderID || o.leader.term != rec.Term:
		o.leader = reignSight{id: rec.LeaderID, term: rec.Term, since: now}
	case there && ofAnother:
	case there && !wasThere:
		o.leader.since = now
	case there && entry.since != last.since:
		o.leader.since = entry.since
	case !there && wasThere:
		o.leader.since = now
	}
	o.leader.there = there
	if there && !ofAnother {
		o.leader.lease = max(o.leader.lease, entry.lease)
	}
}

// takeOverAt is the moment at which the recorded leader's lease is over here:
// its own lease after its last sign of life, or the longest lease seen where
// it has no readable entry. (An entry that another process has put there under
// the leader's ID does not shorten the lease.)
func (o *observation) takeOverAt() time.Duration {
	lease := o.leader.lease
	if !o.leader.there || lease == 0 {
		lease = o.longest
	}
	return o.leader.since + lease
}

// lives reports whether the entry of id has gone on changing for a whole lease
// from first sight. An entry that stands still may seem to move for a while, if
// the reads come from replicas that lag.
func (o *observation) lives(id string) bool {
	s := o.members[id]
	return s.advances >= 2 && s.since >= s.first+s.lease
}

// expired reports whether the entry of id is there and has stood still for its
// whole lease.
func (o *observation) expired(id string, now time.Duration) bool {
	s, ok := o.members[id]
	return ok && now >= s.since+s.lease
}

// readPerMember is how rarely a follower reads again what is kept apart, for each
// entry: in large elections somebody always comes or goes, and if all read all for
// that, the cost would grow with the square.
const readPerMember = 10 * time.Millisecond

// wantsRows reports whether all that is kept apart is to be read: at each look by
// the leader, which watches it for all, and by the others when the leader says that
// something has changed, or when nobody leads who could.
func (o *observation) wantsRows(now, poll time.Duration) bool {
	switch {
	case o.base == nil:
		return false
	case !o.rowsRead:
		return true
	case o.ownID != "" && o.base.LeaderID == o.ownID && o.base.Term == o.ownTerm:
		return !o.watches || now >= o.rowsAt+poll/2
	case now < o.rowsAt+time.Duration(len(o.rows))*readPerMember:
		return false
	case o.base.LeaderID == "" || !o.watched():
		return now >= o.rowsAt+o.ownLease/2
	}
	return o.base.Roster != o.rowsRoster
}

// watched reports whether whoever leads, or led last, watches what is kept apart.
func (o *observation) watched() bool {
	leader, ok := o.base.FindMember(o.base.LeaderID)
	return o.base.LeaderID == "" || ok && leader.Protocol > 0
}

// rosterOf sums up who is kept apart, and all that they say of themselves but that
// they live. Members of every version must come to the same sum, so the fields are
// named here.
func rosterOf(rows []*Member) uint64 {
	var sum uint64
	for _, m := range rows {
		text, _ := json.Marshal([]any{m.ID, m.Nonce, m.Name, m.Address, m.LeaseDuration, m.Labels, m.Declines}) // none of them fails
		h := fnv.New64a()
		_, _ = h.Write(text)
		sum += h.Sum64() // in whatever order
	}
	return sum
}

// loseHistory is called when a write has proved that the stored history went
// back: whatever looked free or silent was of a history that is gone. Nobody is
// followed by this member before the longest lease it knows has passed.
func (o *observation) loseHistory(now time.Duration) {
	o.barred = now + o.longest
	o.changes++
	o.base, o.rows, o.rowsRead, o.history = nil, map[string]*Member{}, false, ""
	o.members, o.entries, o.others, o.stale = map[string]sighting{}, nil, nil, false
	o.leader = reignSight{since: now}
	o.nominee = nomineeSight{}
}

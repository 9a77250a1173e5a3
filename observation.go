package election

import (
	"encoding/json"
	"hash/fnv"
	"time"
)

// observation is the follower's half of the safety argument: what one process has seen of an
// election, and since when on its own monotonic clock. It is a value without I/O and without a
// clock: every moment is a parameter.
//
// A lease is judged only by how long an entry stood still here. Each moment is read when the reply
// has come, never before the read was sent. An entry that changed during the read then counts as
// renewed at the end of the read, which can only lengthen the wait.
type observation struct {
	ownID, ownNonce string
	ownLease        time.Duration

	newest          *Record       // the newest record seen; nil before the first
	history         string        // the last one seen, also if a four-column version dropped it since
	highestTerm     uint64        // the highest term seen
	longestLease    time.Duration // the longest lease seen, the own one included
	noAcquireBefore time.Duration // no acquisition before: history was lost, or a term floor was news
	acquiredTerm    uint64        // the last term that this process is known to have acquired

	leader        reignSight
	nominee       nomineeSight
	rows          memberRows
	members       map[string]memberSight // of every entry, in the record or in a member row
	recordEntries map[string]*Member     // the entries in newest, by ID
	// The members that had a row and no entry in the record when this was made, without this one. A
	// member may have come into the record since: recordEntries counts before this. Sorted by ID,
	// and never changed.
	rowMembers []shownMember
	changes    int  // grows with each change of what show shows
	stale      bool // members and rowMembers have to be made anew: rows.byID was replaced, or an entry has left the record
}

// memberRows are the member rows as they were last read; the own one as it was last read or
// written.
type memberRows struct {
	byID    map[string]*Member
	read    bool          // all of them were read
	readAt  time.Duration // when that was
	roster  uint64        // their checksum then
	tracked bool          // this process leads, and has read all of them in this reign
}

// reignSight is the recorded reign, and the last moment at which it gave a sign of life: it began,
// its entry changed, or its entry vanished.
type reignSight struct {
	id    string
	term  uint64
	since time.Duration
	lease time.Duration // the longest lease that its entry has shown; 0: no entry was seen
	there bool          // its entry stands in the record, where every renewal of a leader goes
}

type nomineeSight struct {
	Nominee
	since time.Duration
}

func newObservation(id, nonce string, lease time.Duration) observation {
	return observation{ownID: id, ownNonce: nonce, ownLease: lease, longestLease: lease, members: map[string]memberSight{},
		rows: memberRows{byID: map[string]*Member{}}}
}

// version is the newest version seen, 0 before the first.
func (o *observation) version() int64 {
	if o.newest == nil {
		return 0
	}
	return o.newest.Version
}

// isOld reports whether rec is older than what was seen before: a lagging replica's answer, or a
// history that went back. An old record renews no lease.
func (o *observation) isOld(rec *Record) bool { return rec.Version < o.version() }

// noteTerms takes in the terms that a record tells of; the record may be old. Its term floor may
// tell of a term that this process has not heard of. The reign of such a term may still last. This
// process then waits before it acquires: for the longest lease that it has seen, or that the record
// shows or tells of.
func (o *observation) noteTerms(rec *Record, now time.Duration) {
	if rec.TermFloor > max(rec.Term, o.highestTerm) {
		o.longestLease = max(o.longestLease, min(rec.FloorLease, MaxLeaseDuration))
		for _, m := range rec.Members {
			o.longestLease = max(o.longestLease, m.lease(o.ownLease))
		}
		o.noAcquireBefore = now + o.longestLease
	}
	o.highestTerm = max(o.highestTerm, rec.Term, rec.TermFloor)
}

// applyRecord takes in a record that is not old. It keeps rec.
func (o *observation) applyRecord(rec *Record, now time.Duration) {
	o.noteTerms(rec, now)
	o.newest = rec
	o.changes++
	if rec.History != "" {
		o.history = rec.History
	}
	o.rows.tracked = o.rows.tracked && rec.LeaderID == o.ownID && rec.Term == o.acquiredTerm
	last := o.members[rec.LeaderID]
	o.applyMembers(rec, now)
	o.applyLeader(rec, o.members[rec.LeaderID], last, now)
	if rec.Nominee == nil {
		o.nominee = nomineeSight{}
	} else if o.nominee.Nominee != *rec.Nominee {
		o.nominee = nomineeSight{*rec.Nominee, now}
	}
}

// applyLeader keeps the moment of the recorded reign's last sign of life. If the record names this
// member in a reign of an earlier process, only that process's entry is a sign of life; this
// process's is not.
func (o *observation) applyLeader(rec *Record, entry, last memberSight, now time.Duration) {
	_, there := o.recordEntries[rec.LeaderID] // a member row is no sign of its reign
	wasThere := o.leader.there
	ofAnother := rec.LeaderID == o.ownID && entry.nonce == o.ownNonce && rec.Term != o.acquiredTerm
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

// takeOverAt is the moment at which the recorded leader's lease is over here: its own lease after
// its last sign of life. If the record holds no readable entry of the leader, it is the longest
// lease seen after that sign. (An entry that another process has put there under the leader's ID
// does not shorten the lease.)
func (o *observation) takeOverAt() time.Duration {
	lease := o.leader.lease
	if !o.leader.there || lease == 0 {
		lease = o.longestLease
	}
	return o.leader.since + lease
}

// provenAlive reports whether the entry of id has gone on changing for a whole lease from first
// sight. One change proves nothing: reads from replicas that lag may show an entry that stands
// still as one that changes.
func (o *observation) provenAlive(id string) bool {
	s := o.members[id]
	return s.advances >= 2 && s.since >= s.first+s.lease
}

// expired reports whether the entry of id is there and has stood still for its whole lease.
func (o *observation) expired(id string, now time.Duration) bool {
	s, ok := o.members[id]
	return ok && now >= s.since+s.lease
}

// readPerMember bounds how often a follower reads all member rows: once in this time for each row.
// In a large election some member always comes or goes. If every member read every row for that,
// the cost would grow with the square of their number.
const readPerMember = 10 * time.Millisecond

// memberRowsDue reports whether all member rows are to be read. The leader reads them at each look,
// and keeps their checksum in the record (Roster). A follower reads them when the roster has
// changed. If no leader keeps one, it reads them every half lease.
func (o *observation) memberRowsDue(now, poll time.Duration) bool {
	switch {
	case o.newest == nil:
		return false
	case !o.rows.read:
		return true
	case o.ownID != "" && o.newest.LeaderID == o.ownID && o.newest.Term == o.acquiredTerm:
		return !o.rows.tracked || now >= o.rows.readAt+poll/2
	case now < o.rows.readAt+time.Duration(len(o.rows.byID))*readPerMember:
		return false
	case o.newest.LeaderID == "" || !o.leaderKnowsRows():
		return now >= o.rows.readAt+o.ownLease/2
	}
	return o.newest.Roster != o.rows.roster
}

// leaderKnowsRows reports whether the leader knows of member rows; true if nobody leads.
func (o *observation) leaderKnowsRows() bool {
	leader, ok := o.newest.FindMember(o.newest.LeaderID)
	return o.newest.LeaderID == "" || ok && leader.Protocol > 0
}

// rosterOf is the checksum of member rows: of what each says of itself, but not of its renewals.
// The order of the rows does not matter. The fields are named here, as members of every version
// must come to the same sum.
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

// loseHistory forgets what was seen, as history went back: what looked free or silent was of a
// history that is gone. This process acquires nothing before the longest lease it knows has passed.
func (o *observation) loseHistory(now time.Duration) {
	o.noAcquireBefore = now + o.longestLease
	o.changes++
	o.newest, o.rows.byID, o.rows.read, o.history = nil, map[string]*Member{}, false, ""
	o.members, o.recordEntries, o.rowMembers, o.stale = map[string]memberSight{}, nil, nil, false
	o.leader = reignSight{since: now}
	o.nominee = nomineeSight{}
}

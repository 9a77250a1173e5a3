package election

import (
	"encoding/json"
	"hash/fnv"
	"maps"
	"slices"
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
	record  *Record       // the same, with the entries that are kept apart
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
	members map[string]sighting
}

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
// news, its reign may still last, and the longest lease known is waited for.
func (o *observation) hear(rec *Record, now time.Duration) {
	if rec.TermFloor > max(rec.Term, o.term) {
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
	rec = o.whole(rec)
	members := make(map[string]sighting, len(rec.Members))
	for _, m := range rec.Members {
		s := o.sight(m, now)
		o.longest = max(o.longest, s.lease)
		members[m.ID] = s
	}
	o.seeLeader(rec, members, now)
	o.members = members
	if rec.Nominee == nil {
		o.nominee = nomineeSight{}
	} else if o.nominee.Nominee != *rec.Nominee {
		o.nominee = nomineeSight{*rec.Nominee, now}
	}
	o.record = rec
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

// seeLeader keeps the moment of the recorded reign's last sign of life. Where
// the record names this member in a reign of an earlier process, only that
// process's entry is a sign of it; our own is not.
func (o *observation) seeLeader(rec *Record, members map[string]sighting, now time.Duration) {
	entry, last := members[rec.LeaderID], o.members[rec.LeaderID]
	_, there := o.base.FindMember(rec.LeaderID) // a member row is no sign of its reign
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

// whole is rec together with the entries that are kept apart. Where one member
// has two, the later one of the same process counts, else that in the record:
// that of the process which leads, or led.
func (o *observation) whole(rec *Record) *Record {
	if len(o.rows) == 0 {
		return rec
	}
	whole := *rec
	whole.Members = slices.Clone(rec.Members)
	inside := make(map[string]int, len(rec.Members))
	for i, m := range rec.Members {
		inside[m.ID] = i
	}
	for id, row := range o.rows {
		switch i, twice := inside[id]; {
		case !twice:
			whole.Members = append(whole.Members, row)
		case row.Nonce != "" && row.Nonce == rec.Members[i].Nonce && row.Renewals > rec.Members[i].Renewals:
			whole.Members[i] = row
		}
	}
	return &whole
}

// seeRows takes in what is kept apart: all of it, or what is kept under id.
func (o *observation) seeRows(found []*Member, id string, now time.Duration) {
	rows := make(map[string]*Member, max(len(found), len(o.rows)))
	if id != "" {
		maps.Copy(rows, o.rows)
		delete(rows, id)
	}
	for _, m := range found {
		if last, ok := o.rows[m.ID]; ok && id == "" && last.Nonce == m.Nonce && last.Renewals > m.Renewals {
			m = last // from a replica that lags
		}
		rows[m.ID] = m
	}
	if own, ok := o.rows[o.ownID]; ok && id == "" {
		rows[o.ownID] = own // what is written next builds on what was read or written for that
	}
	o.rows = rows
	if o.base != nil {
		o.see(o.base, now)
	}
}

// seeAllRows takes in all that is kept apart.
func (o *observation) seeAllRows(found []*Member, now time.Duration) {
	o.rowsRead, o.rowsAt = true, now
	o.changes++
	if o.base == nil {
		return
	}
	o.seeRows(found, "", now)
	o.rowsRoster = rosterOf(found) // and not the record's: the answer may be an old one
	o.watches = o.base.LeaderID != "" && o.base.LeaderID == o.ownID && o.base.Term == o.ownTerm
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
	o.base, o.record, o.rows, o.rowsRead, o.history = nil, nil, map[string]*Member{}, false, ""
	o.members = map[string]sighting{}
	o.leader = reignSight{since: now}
	o.nominee = nomineeSight{}
}

package election

import (
	"cmp"
	"slices"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// view is what an elector or observer shows to other goroutines: an immutable snapshot, replaced as
// a whole.
type view struct {
	clock         clock.Clock
	leadership    Leadership
	until         time.Duration // when the leader's lease is over here
	rowMembers    []shownMember // members with a row; shared with other views
	recordMembers []shownMember // members in the record, and this one: they count before rowMembers
	leaderVouches bool          // another member keeps the roster, or nobody leads: a row is valid for its lease after the leader's lease
	changes       int           // observation.changes when the view was made
	state         State
	renewedAt     time.Time
	err           error
}

// shownMember is an entry as it is shown. It is never changed.
type shownMember struct {
	*Member
	until, lease time.Duration
	inRow        bool // the member has a row
}

// asShown is the shown form of the entry m, which s was made of.
func (s memberSight) asShown(m *Member, inRow bool) shownMember {
	return shownMember{m, s.since + s.lease, s.lease, inRow}
}

// show makes the view of what o has seen. Its cost does not grow with the member rows: rowMembers
// is shared, and the readers of the view sort and copy.
func (o *observation) show(c clock.Clock, scope string) view {
	v := view{clock: c, until: o.takeOverAt(), changes: o.changes}
	if o.newest == nil {
		return v
	}
	v.leadership = Leadership{Leader: o.entryOf(o.newest.LeaderID), Term: o.newest.Term, scope: scope}
	v.rowMembers, v.leaderVouches = o.rowMembers, !o.rows.tracked && o.leaderKnowsRows()
	for id := range o.recordEntries {
		v.recordMembers = append(v.recordMembers, o.shown(id))
	}
	if _, inside := o.recordEntries[o.ownID]; !inside && o.rows.byID[o.ownID] != nil {
		v.recordMembers = append(v.recordMembers, o.shown(o.ownID))
	}
	return v
}

func (o *observation) shown(id string) shownMember {
	_, inRow := o.rows.byID[id]
	return o.members[id].asShown(o.entryOf(id), inRow)
}

// current is the leadership if its lease is valid now, else its term alone. Its Leader is shared.
func (v *view) current() Leadership {
	if v == nil {
		return Leadership{}
	}
	l := v.leadership
	if l.Leader != nil && v.clock.Now().Mono >= v.until {
		l.Leader = nil
	}
	return l
}

func (v *view) leader() (*Member, bool) {
	l := v.current()
	return l.Leader.Clone(), l.Leader != nil
}

// liveMembers returns copies of the members whose lease is valid now.
func (v *view) liveMembers() []*Member {
	members := []*Member{}
	if v == nil {
		return members
	}
	now := v.clock.Now().Mono
	shown := make(map[string]bool, len(v.recordMembers))
	for _, m := range v.recordMembers {
		shown[m.ID] = true
		if now < v.validUntil(m) {
			members = append(members, m.Clone())
		}
	}
	for _, m := range v.rowMembers {
		if !shown[m.ID] && now < v.validUntil(m) {
			members = append(members, m.Clone())
		}
	}
	slices.SortFunc(members, func(a, b *Member) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

func (v *view) validUntil(m shownMember) time.Duration {
	if m.inRow && v.leaderVouches {
		return max(m.until, v.until+m.lease)
	}
	return m.until
}

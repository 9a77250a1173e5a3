package election

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sqlelect/election/internal/clock"
)

// view is what an elector or observer shows to others: an immutable snapshot,
// replaced as a whole.
type view struct {
	clock      clock.Clock
	leadership Leadership
	until      time.Duration // when the leader's lease is over here
	others     []seenMember  // shared with other views
	recent     []seenMember  // and this member, and who is in the record: they count before others
	vouched    bool          // the leader watches for us what is kept apart
	changes    int           // of the observation, up to which it goes
	state      State
	renewedAt  time.Time
	err        error
}

// seenMember is an entry as it is shown. Nobody changes it any more.
type seenMember struct {
	*Member
	until, lease time.Duration
	apart        bool
}

// of is what s shows of the entry m, which it was made of.
func (s sighting) of(m *Member, apart bool) seenMember {
	return seenMember{m, s.since + s.lease, s.lease, apart}
}

// show makes the view of what o has seen. What it takes does not depend on how many
// members are kept apart: others is shared, and the rest is left to the readers.
func (o *observation) show(c clock.Clock, scope string) view {
	v := view{clock: c, until: o.takeOverAt(), changes: o.changes}
	if o.base == nil {
		return v
	}
	v.leadership = Leadership{Leader: o.entryOf(o.base.LeaderID), Term: o.base.Term, scope: scope}
	v.others, v.vouched = o.others, !o.watches && o.watched()
	for id := range o.entries {
		v.recent = append(v.recent, o.shown(id))
	}
	if _, inside := o.entries[o.ownID]; !inside && o.rows[o.ownID] != nil {
		v.recent = append(v.recent, o.shown(o.ownID))
	}
	return v
}

func (o *observation) shown(id string) seenMember {
	_, apart := o.rows[id]
	return o.members[id].of(o.entryOf(id), apart)
}

// current is the leadership if its lease is valid now; else its term alone. Its
// Leader is shared.
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

// live returns copies of the members whose lease is valid now.
func (v *view) live() []*Member {
	members := []*Member{}
	if v == nil {
		return members
	}
	now := v.clock.Now().Mono
	shown := make(map[string]bool, len(v.recent))
	for _, m := range v.recent {
		shown[m.ID] = true
		if now < v.validUntil(m) {
			members = append(members, m.Clone())
		}
	}
	for _, m := range v.others {
		if !shown[m.ID] && now < v.validUntil(m) {
			members = append(members, m.Clone())
		}
	}
	slices.SortFunc(members, func(a, b *Member) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

func (v *view) validUntil(m seenMember) time.Duration {
	if m.apart && v.vouched {
		return max(m.until, v.until+m.lease)
	}
	return m.until
}

// feed tells any number of receivers the latest Leadership. Publishing never
// blocks: each receiver has a channel of one place, whose content is replaced.
type feed struct {
	mu        sync.Mutex
	last      Leadership
	ended     bool // nothing follows
	receivers map[chan Leadership]struct{}
}

// publish passes l on if it differs from the last one.
func (f *feed) publish(l Leadership) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sameReign(f.last, l) {
		return
	}
	f.tell(l)
}

func (f *feed) tell(l Leadership) {
	f.last = l
	for c := range f.receivers {
		select {
		case <-c:
		default:
		}
		c <- f.last.clone() // there is room: only this sends, under the lock
	}
}

// end tells the receivers that no leader is known any more, and closes their channels.
func (f *feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last.Leader != nil {
		f.tell(Leadership{Term: f.last.Term})
	}
	f.ended = true
	for c := range f.receivers {
		close(c)
	}
	f.receivers = nil
}

// observe returns a channel with the current Leadership in it.
func (f *feed) observe(ctx context.Context) <-chan Leadership {
	c := make(chan Leadership, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	c <- f.last.clone()
	if f.ended {
		close(c)
		return c
	}
	if f.receivers == nil {
		f.receivers = map[chan Leadership]struct{}{}
	}
	f.receivers[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if _, open := f.receivers[c]; open {
			delete(f.receivers, c)
			close(c)
		}
	})
	return c
}

// clone shares no entry with l.
func (l Leadership) clone() Leadership {
	l.Leader = l.Leader.Clone()
	return l
}

// sameReign reports whether a and b are the same process's same reign.
func sameReign(a, b Leadership) bool {
	if a.Term != b.Term || (a.Leader == nil) != (b.Leader == nil) {
		return false
	}
	return a.Leader == nil || a.Leader.ID == b.Leader.ID && a.Leader.Address == b.Leader.Address
}

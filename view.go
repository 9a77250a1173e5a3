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
	members    []seenMember  // sorted by ID
	changes    int           // of the observation, up to which it goes
	state      State
	renewedAt  time.Time
	err        error
}

type seenMember struct {
	*Member
	until time.Duration
}

// show makes the view of what o has seen. The view shares the entries of o's
// record, which nobody changes any more.
func (o *observation) show(c clock.Clock, scope string) view {
	v := view{clock: c, until: o.takeOverAt(), changes: o.changes}
	if o.record == nil {
		return v
	}
	v.leadership = Leadership{Term: o.record.Term, scope: scope}
	for _, m := range o.record.Members {
		if s, ok := o.members[m.ID]; ok {
			until := s.since + s.lease
			if _, apart := o.rows[m.ID]; apart && !o.watches && o.watched() {
				until = max(until, v.until+s.lease) // the leader watches it for us
			}
			v.members = append(v.members, seenMember{m, until})
		}
		if m.ID == o.record.LeaderID {
			v.leadership.Leader = m
		}
	}
	slices.SortFunc(v.members, func(a, b seenMember) int { return cmp.Compare(a.ID, b.ID) })
	return v
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
	for _, m := range v.members {
		if now < m.until {
			members = append(members, m.Clone())
		}
	}
	return members
}

// feed tells any number of receivers the latest Leadership. Publishing never
// blocks: each receiver has a channel of one place, whose content is replaced.
type feed struct {
	mu        sync.Mutex
	last      Leadership
	receivers map[chan Leadership]struct{}
}

// publish passes l on if it differs from the last one.
func (f *feed) publish(l Leadership) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sameReign(f.last, l) {
		return
	}
	f.last = l
	for c := range f.receivers {
		select {
		case <-c:
		default:
		}
		c <- f.last.clone() // there is room: only publish sends, under the lock
	}
}

// observe returns a channel with the current Leadership in it.
func (f *feed) observe(ctx context.Context) <-chan Leadership {
	c := make(chan Leadership, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.receivers == nil {
		f.receivers = map[chan Leadership]struct{}{}
	}
	f.receivers[c] = struct{}{}
	c <- f.last.clone()
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.receivers, c)
		close(c)
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

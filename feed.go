package election

import (
	"context"
	"sync"
)

// feed tells any number of receivers the latest Leadership. Publishing never blocks: each receiver
// has a channel with room for one Leadership, which the next one replaces.
type feed struct {
	mu        sync.Mutex
	last      Leadership
	ended     bool // nothing follows
	receivers map[chan Leadership]struct{}
}

// publish tells the receivers of l, if it differs from the last one.
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
		c <- f.last.clone() // there is room: only tell sends, under the lock
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

// clone is a copy of l that shares no entry with l.
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

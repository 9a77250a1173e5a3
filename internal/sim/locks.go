package sim

import "slices"

// locks are those of the one leader row: shared by guarded transactions, exclusive for the moment
// of a change of leader, granted in the order of arrival. Whoever gives a lock back does the work
// of those who waited for it, so that their order does not depend on the scheduler. A waiting
// change lets no later share pass, so that a leader's transactions cannot put it off for ever.
type locks struct {
	holders int // of a share
	queue   []*waiter
}

// waiter waits for a lock. work is called when the lock is granted, and reports whether a share is
// then held.
type waiter struct {
	alone   bool
	work    func() (held bool)
	granted chan struct{}
}

// exclusive runs work when nobody holds a share, and returns nil if it has run at once.
func (l *locks) exclusive(work func()) *waiter {
	return l.ask(&waiter{alone: true, work: func() bool { work(); return false }})
}

// shared runs work when no change is waiting, and returns nil if it has run at once.
func (l *locks) shared(work func() (held bool)) *waiter { return l.ask(&waiter{work: work}) }

func (l *locks) ask(w *waiter) *waiter {
	w.granted = make(chan struct{})
	l.queue = append(l.queue, w)
	l.serve()
	select {
	case <-w.granted:
		return nil
	default:
		return w
	}
}

func (l *locks) release() {
	l.holders--
	l.serve()
}

// withdraw takes w out of the queue, and reports whether it was still there. Those behind it may
// have waited for it alone.
func (l *locks) withdraw(w *waiter) bool {
	i := slices.Index(l.queue, w)
	if i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		l.serve()
	}
	return i >= 0
}

// serve grants the lock to waiters, from the first one on, up to one who has to wait.
func (l *locks) serve() {
	for len(l.queue) > 0 {
		w := l.queue[0]
		if w.alone && l.holders > 0 {
			return
		}
		l.queue = l.queue[1:]
		if w.work() {
			l.holders++
		}
		close(w.granted)
	}
}

package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sqlelect/election"
)

// judge holds the invariants, and the first violation.
//
//	G1  an acquisition's term is above every earlier one of the same history, and above all that its
//	    process has read; at most one callback per acquisition
//	G2  no callback starts while another runs, unless an assumption of G2 is broken (see excused)
//	G3  a guarded entry is committed only while the record names its writer, in its term: also where
//	    G2's assumptions are broken. (Where a write of a history that is gone has overwritten the
//	    record, only the leader row counts.)
//	G4  in a quiet world somebody leads soon (see script.go)
//
// A history ends when the database forgets something. Terms are compared within one history alone,
// because G1 promises no more than what a surviving row or member remembers.
type judge struct {
	trace      *trace
	stopWithin time.Duration // how long a callback may take to return; 0: however long

	mu        sync.Mutex
	violation string
	failed    chan struct{} // closed with the first violation

	history uint64 // grows when the database forgets something
	lostAt  time.Time
	kept    int64               // the version to which it went back
	highest uint64              // the highest term acquired in this history
	undone  bool                // the record was overwritten by a write of an earlier history
	entered map[[2]uint64]bool  // by history and term: a callback was started
	written map[[2]uint64]int64 // by history and term: the version of the acquisition
	reigns  map[*reign]struct{} // callbacks that run
	hidden  map[*process]*reign // callbacks of shadows
	latest  *reign              // the last callback that was started

	Tally
}

// Tally counts what a world was made of: a run in which little happens proves little. Refusals are
// guarded writes that the database refused. Overlaps are callbacks that ran at once, outside of
// G2's assumptions.
type Tally struct {
	Acquisitions, Callbacks, Entries, Refusals, Overlaps, Clones int
}

// reign is one callback.
type reign struct {
	process *process
	term    uint64
	version int64 // of its acquisition
	start   time.Time
	over    time.Time // when its ctx ended; zero before
	end     time.Time // when it returned; zero before
	stop    func() bool
}

func newJudge(t *trace, stopWithin time.Duration) *judge {
	return &judge{
		trace: t, stopWithin: stopWithin, failed: make(chan struct{}),
		entered: map[[2]uint64]bool{}, written: map[[2]uint64]int64{}, reigns: map[*reign]struct{}{}, hidden: map[*process]*reign{},
	}
}

// fail notes a violation. The first one counts: what follows it may be its consequence. It ends the
// world.
func (j *judge) fail(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failLocked(format, args...)
}

// verdict is the first violation, or empty.
func (j *judge) verdict() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.violation
}

func (j *judge) failLocked(format string, args ...any) {
	if j.violation != "" {
		return
	}
	j.violation = fmt.Sprintf(format, args...)
	j.trace.add("judge", "VIOLATION", 0, 0)
	close(j.failed)
}

// lost takes note that the database has gone back to a record: a new history begins with what is
// left.
func (j *judge) lost(record *election.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.history++
	j.lostAt, j.kept = time.Now(), record.Version
	j.highest = record.Term
	j.trace.add("database", "goes back to", record.Term, uint64(record.Version))
}

// stored judges a commit of p that replaced before by after, and wrote the leader row if changed is
// true. A renewal changes neither the leader nor the term, and is not judged.
func (j *judge) stored(p *process, before, after *election.Record, changed bool) {
	if before.LeaderID == after.LeaderID && before.Term == after.Term {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.undone = false
	switch {
	case changed && after.LeaderID == p.id:
	case changed && after.LeaderID == "":
		j.trace.add(p.id, "release", after.Term, uint64(after.Version))
		return
	default: // a write of a history that is gone found its version in this one
		j.trace.add(p.id, "restores "+after.LeaderID, after.Term, uint64(after.Version))
		j.undone = true
		if j.history == 0 {
			j.failLocked("G1: %s made %s the leader", p.id, after.LeaderID)
		}
		return
	}
	j.trace.add(p.id, "acquire", after.Term, uint64(after.Version))
	j.Acquisitions++
	if after.Term <= j.highest {
		j.failLocked("G1: %s acquired term %d, after term %d of the same history", p.id, after.Term, j.highest)
	}
	j.highest = after.Term
	j.written[[2]uint64{j.history, after.Term}] = after.Version
	p.acquires(after.Term, j.history)
}

// acquired takes note of an acquisition in a storage whose commits cannot be seen.
func (j *judge) acquired(p *process, term uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.trace.add(p.id, "acquire", term, 0)
	j.Acquisitions++
	p.acquires(term, j.history)
}

// sends judges an acquisition on its way. What its process has read counts, and not what it may
// read before the commit: it may give the write up, and read again, while the write is under way.
func (j *judge) sends(p *process, record *election.Record) {
	if seen := p.hasSeen(); record.LeaderID == p.id && record.Term != 0 && record.Term <= seen {
		j.fail("G1: %s acquires term %d although it has read of term %d", p.id, record.Term, seen)
	}
}

// enter judges the start of a callback. That of a shadow is put aside: it is no callback of its
// own, as long as its process is no clone.
func (j *judge) enter(p *process, term uint64, ctx context.Context) *reign {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p.isShadow() {
		r := j.begin(p, term, ctx)
		j.hidden[p] = r
		return r
	}
	j.Callbacks++
	j.trace.add(p.id, "enter", term, 0)
	p.mu.Lock()
	history, known := p.acquired[term]
	p.mu.Unlock()
	key := [2]uint64{history, term}
	switch {
	// acquired holds what p's own writes have committed. A reign that another process has acquired
	// under p's ID is not p's to begin.
	case !known:
		j.failLocked("G1: a callback of %s started in term %d, which it never acquired", p.id, term)
	case j.entered[key]:
		j.failLocked("G1: a second callback started in term %d", term)
	}
	j.entered[key] = true
	for other := range j.reigns {
		if j.excused(other, p) {
			j.Overlaps++
			continue
		}
		j.failLocked("G2: a callback of %s started in term %d while that of %s in term %d ran (%s)",
			p.id, term, other.process.id, other.term, other.state())
	}
	r := j.begin(p, term, ctx)
	r.version = j.written[key]
	j.reigns[r] = struct{}{}
	j.latest = r
	return r
}

func (j *judge) begin(p *process, term uint64, ctx context.Context) *reign {
	r := &reign{process: p, term: term, start: time.Now()}
	r.stop = context.AfterFunc(ctx, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		r.over = time.Now()
	})
	return r
}

// cloned takes note that s has become a clone of p, which goes on after a while. A callback of s
// that was put aside becomes one of its own beside that of p. This overlap is counted, and is no
// violation.
func (j *judge) cloned(p, s *process, after time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.Clones++
	s.clonedAt = time.Now().Add(after)
	if r := j.hidden[s]; r != nil {
		j.Overlaps++
		j.reigns[r] = struct{}{}
		delete(j.hidden, s)
	}
	time.AfterFunc(after+s.alike(), func() { j.apart(p, s) })
}

// alike is for how long a clone and its original may both lead: each trusts what was acknowledged
// before they were two, until one of them finds the other's entry. 10 ms are slack.
func (p *process) alike() time.Duration {
	return p.machine().real(p.lease.renewDeadline) + 10*time.Millisecond
}

// apart judges whether only one of the two goes on. It excuses a process that was stopped
// meanwhile, because it could not look.
func (j *judge) apart(p, s *process) {
	j.mu.Lock()
	defer j.mu.Unlock()
	lead := 0
	for r := range j.reigns {
		if (r.process == p || r.process == s) && r.over.IsZero() {
			lead++
		}
	}
	since := s.clonedAt
	if lead > 1 && !p.machine().stoppedSince(since) && !s.machine().stoppedSince(since) {
		j.failLocked("G2: %s and its clone both lead, %v after it went on", p.id, s.alike())
	}
}

// isTwoAt reports whether the process had been copied, or was a copy, and was alone not long ago at
// that moment: it may not have known yet what the other one did in its name.
func (p *process) isTwoAt(moment time.Time) bool {
	return !p.copiedAt().IsZero() && moment.Sub(p.copiedAt()) <= p.alike()
}

// copiedAt is when the process's copy, or the process as a copy, went on; zero: it is alone.
func (p *process) copiedAt() time.Time {
	if s := p.shadow; s != nil {
		p = s
	}
	return p.clonedAt
}

func (r *reign) state() string {
	if r.over.IsZero() {
		return "its ctx has not ended"
	}
	return fmt.Sprintf("its ctx ended %v ago; it may take %v", time.Since(r.over), r.process.lease.allowed)
}

// excused reports whether an assumption of G2 was broken, so that p's callback may start although
// that of r runs.
func (j *judge) excused(r *reign, p *process) bool {
	first := r.process
	// Until its next look at the clocks, a member that was stopped believes what it believed
	// before.
	look := first.machine().real(first.lease.renewInterval/4) + 10*time.Millisecond
	switch {
	case first.machine().stoppedSince(r.start) && (!r.over.IsZero() || first.machine().stoppedSince(time.Now().Add(-look))):
		// r's process was stopped while the callback ran.
		return true
	case first.isTwoAt(time.Now()), first.isTwoAt(r.over) && r.over.After(first.copiedAt()):
		// r's process has a copy, which may have given up what both had. A callback whose ctx ended in
		// that time may take what the formula allows after it.
		return true
	case first.lease.allowed < 0:
		// The clocks are further apart than the configuration of r's process has room for.
		return true
	case !r.over.IsZero() && time.Since(r.over) > first.lease.allowed:
		// r's callback takes longer than the formula allows.
		return true
	case j.lostAt.After(r.start):
		// Writes were lost, of which p may not have read.
		return p.missed(r, j.kept, j.lostAt)
	}
	return false
}

// exit takes note of a callback's return. A callback of somebody else's that returns later than
// Options.StopWithin is a violation, unless its process was stopped.
func (j *judge) exit(r *reign) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.stop()
	if j.hidden[r.process] == r {
		delete(j.hidden, r.process)
	}
	// A callback whose process has died is gone: what is left of it on this machine counts no more.
	if _, runs := j.reigns[r]; !runs {
		return
	}
	r.end = time.Now()
	delete(j.reigns, r)
	j.trace.add(r.process.id, "exit", r.term, 0)
	if within := j.stopWithin; within > 0 && !r.over.IsZero() && r.end.Sub(r.over) > within && !r.process.machine().stoppedSince(r.start) {
		j.failLocked("the callback of %s returned %v after its ctx had ended; it should within %v", r.process.id, r.end.Sub(r.over), within)
	}
}

// gone takes note of a process's death: its callbacks have ended with it.
func (j *judge) gone(p *process) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for r := range j.reigns {
		if r.process == p {
			r.end = time.Now()
			delete(j.reigns, r)
		}
	}
}

// commit judges a guarded entry, given what the record names in that moment. If a write of an
// earlier history has overwritten the record, the leader row may still hold the reign, and rightly
// decides.
func (j *judge) commit(p *process, term uint64, now *election.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.Entries++
	j.trace.add(p.id, "entry", term, uint64(now.Version))
	if (now.LeaderID != p.id || now.Term != term) && !(j.undone && (now.Unguarded || now.LeaderID == "")) { // the leader row is as it was
		j.failLocked("G3: an entry of %s in term %d was committed while %q led in term %d", p.id, term, now.LeaderID, now.Term)
	}
}

// refused counts a guarded write that the database refused because its process does not lead. This
// is the guard at work. Other errors are of a transaction that came too late.
func (j *judge) refused(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(err, election.ErrNotLeader) {
		j.Refusals++
	}
}

// leader is the callback that runs, if it is the only one and its ctx has not ended; else nil.
func (j *judge) leader() *reign {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.reigns) != 1 {
		return nil
	}
	for r := range j.reigns {
		if r.over.IsZero() {
			return r
		}
	}
	return nil
}

func (j *judge) hasReturned(r *reign) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !r.end.IsZero()
}

// last is the callback that was started last, whether or not it still runs.
func (j *judge) last() *reign {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.latest
}

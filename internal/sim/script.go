package sim

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing/synctest"
	"time"

	"github.com/sqlelect/election"
)

var errViolated = errors.New("a promise was broken")

// restless makes things happen, one after the other, for the plan's length. The times between them
// have an exponential distribution, so that some faults come in the midst of others.
func (w *world) restless() {
	for end := time.Now().Add(w.plan.length); w.failed() == nil && time.Now().Before(end); {
		w.wait(time.Duration(-math.Log(1-w.dice.Float64()) * float64(w.plan.every)))
		w.happen()
	}
}

// happen does one thing to one member. Every other time at least, this is the member that led last.
// If the plan lacks the fault that is drawn, nothing happens. The judge treats what happens so:
//
//   - A crash ends the callback with its process.
//   - A shutdown, a resignation, a transfer, a cut and a step of the wall clock excuse nothing.
//   - A member that is stopped, or sleeps, may overlap with the next leader (G2).
//   - After a loss of history terms are compared with those of the new history alone (G1), and a
//     leader of which the new one has not read may overlap with it (G2).
//   - A second process under one ID excuses nothing: it has to find out that it is one too many.
//   - A clone may lead beside its original for a while (G2).
//
// Nothing excuses an entry outside of its term (G3).
func (w *world) happen() {
	m := w.members[w.dice.IntN(len(w.members))]
	if r := w.judge.last(); r != nil && w.dice.IntN(2) == 0 {
		for _, other := range w.members {
			if other.process == r.process {
				m = other
			}
		}
	}
	p := m.process
	if p.isDead() || p.hasEnded() {
		m.process = w.start(m.id, m.machine) // after a crash or an upgrade: configured anew
		return
	}
	some := func(leases float64) time.Duration {
		return 1 + time.Duration(w.dice.Float64()*leases*float64(p.lease.duration))
	}
	switch kind := w.dice.IntN(18); {
	case kind < 3:
		p.crash()
	case kind < 5:
		w.trace.add(p.id, "shut down", 0, 0)
		p.both(func(p *process) { p.cancel() })
	case kind < 7:
		w.resign(p, some(2))
	case kind < 9:
		w.transfer(p, w.members[w.dice.IntN(len(w.members))].id)
	case kind < 12:
		w.cut(m, some(2), w.dice.IntN(2) == 0)
	case kind == 12:
		d, hole := some(2), w.dice.IntN(2) == 0
		for _, each := range w.members {
			w.cut(each, d, hole)
		}
	case kind == 13:
		d := time.Duration((2*w.dice.Float64() - 1) * float64(time.Hour))
		w.trace.add(p.id, "clock steps", uint64(d), 0)
		m.machine.stepWall(d)
	case kind == 14 && w.plan.stops:
		d, asleep := some(3), w.dice.IntN(2) == 0
		w.trace.add(p.id, "stops for", uint64(d), 0)
		m.machine.stop(d, asleep)
	case kind == 15 && w.plan.loses:
		w.loss()
	case kind == 16 && w.plan.twins:
		w.twins = append(w.twins, w.start(m.id, w.newMachine(w.newDice())))
	case kind == 17 && w.plan.clones:
		after := time.Duration(0)
		if w.plan.stops {
			after = some(2)
		}
		w.clone(p, after, w.dice.IntN(2) == 0)
	}
}

// cut cuts a member off from the database. A leader that is cut off has to step down by itself.
func (w *world) cut(m *member, d time.Duration, hole bool) {
	w.trace.add(m.id, "cut off for", uint64(d), 0)
	m.process.link.set(func(f *fates) { f.cutTo, f.hole = time.Now().Add(d), hole })
}

// loss is a loss of history. The leader may not hear of it for a while. Another member may come
// anew meanwhile, which knows nothing but what the others have told the record.
func (w *world) loss() {
	leader := w.judge.last()
	w.lose()
	some := func(d time.Duration) time.Duration { return time.Duration(w.dice.Int64N(int64(d))) }
	var others []*member
	for _, m := range w.members {
		if leader == nil || m.process != leader.process {
			others = append(others, m)
		} else if w.dice.IntN(3) > 0 {
			w.cut(m, leader.process.lease.duration, w.dice.IntN(2) == 0)
		}
	}
	if leader != nil && len(others) > 0 && w.dice.IntN(2) == 0 {
		m := others[w.dice.IntN(len(others))]
		m.process.crash()
		w.wait(some(leader.process.lease.duration / 2))
		m.process = w.start(m.id, m.machine)
	}
}

// lose makes the database forget, in one of five ways:
//
//   - Others went on from an older state, past the versions that the members know.
//   - All rows are gone.
//   - The member rows are gone.
//   - The leader's entry is gone.
//   - Some changes are undone.
func (w *world) lose() {
	switch rows := w.database.Rows(); {
	case w.dice.IntN(4) == 0 && w.allJoined() && rows.Record != nil:
		rows.Record.Version += 1 + w.dice.Int64N(5)
		rows.Record.LeaderID, rows.Record.Members, rows.Record.Nominee = "", nil, nil
		rows.Record.Term = w.database.Read(0, 0).Term
		rows.Leader = &LeaderRow{Term: rows.Record.Term}
		for _, m := range rows.Members {
			// The process that wrote the entry finds that it is older.
			m.Renewals--
		}
		w.database.SetRows(rows)
	case w.dice.IntN(3) == 0:
		w.database.SetRows(Rows{})
	case w.dice.IntN(4) == 0:
		rows.Members = nil
		w.database.SetRows(rows)
	case w.dice.IntN(2) == 0 && rows.Record != nil:
		rows.Record.Members = slices.DeleteFunc(rows.Record.Members, func(m *election.Member) bool { return m.ID == rows.Record.LeaderID })
		w.database.SetRows(rows)
	default:
		w.database.Back(1 + w.dice.IntN(40))
	}
	w.judge.lost(w.database.Read(0, 0))
}

// allJoined reports whether every process has something in the database that it would miss. (A
// process that has nothing there cannot tell a record that went back, and has grown since, from
// another.)
func (w *world) allJoined() bool {
	if !w.plan.apart || w.plan.mixed || len(w.twins) > 0 {
		return false
	}
	for _, m := range w.members {
		if e := m.process.elector; !m.process.isDead() && (e == nil || e.Status().RenewedAt.IsZero()) {
			return false
		}
	}
	return true
}

// askTimeout is how long a resignation or a transfer is waited for. Its error is of no interest:
// the judge goes by what happens.
const askTimeout = 30 * time.Second

func (w *world) resign(p *process, pause time.Duration) {
	w.trace.add(p.id, "resigns for", uint64(pause), 0)
	p.both(func(p *process) {
		w.running.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
			defer cancel()
			_ = p.elector.ResignLeader(ctx, pause)
		})
	})
}

func (w *world) transfer(p *process, to string) {
	w.trace.add(p.id, "transfers to "+to, 0, 0)
	p.both(func(p *process) {
		w.running.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
			defer cancel()
			_ = p.elector.TransferLeader(ctx, to)
		})
	})
}

// rest ends all faults, brings every member back, and judges how long the elections take that
// follow: after whatever there was, after a crash, after a resignation; and how the members leave.
// This is G4.
func (w *world) rest() {
	w.trace.add("world", "comes to rest", 0, 0)
	w.quiet.Store(true)
	// Replicas go on lagging, as they may at any time, but for less than a lease.
	w.plan.faults = Faults{Delay: restDelay, Stale: w.plan.faults.Stale, Age: w.plan.faults.Age, Lag: restLag}
	w.crashGuests()
	for _, m := range w.members {
		w.wait(m.machine.idle() + time.Millisecond)
		m.process.link.set(func(f *fates) { f.faults, f.cutTo = w.plan.faults, time.Time{} })
	}
	w.wait(askTimeout) // whatever was asked for has happened or was given up
	w.revive()
	for _, part := range []func(){w.settle, w.stay, w.replaceCrashed, w.revive, w.settle, w.replaceResigned, w.settle, w.leave} {
		if w.failed() == nil {
			part()
		}
	}
}

const (
	restDelay = time.Millisecond
	restLag   = 3 * time.Second // less than any lease takes by any clock
	// slack is for a few calls of at most restDelay each way, lost races, and the
	// retries after them.
	slack      = 200 * time.Millisecond
	stalePolls = 8
	// longest bounds everything that can hold up an election in a world that has come to rest:
	// callbacks that are stuck, pauses, leases of the dead.
	longest = 5 * time.Minute
)

// revive starts the members that are down, when their last process has ended. A process whose
// callback is stuck may take its time.
func (w *world) revive() {
	for _, m := range w.members {
		deadline := time.Now().Add(longest)
		for p := m.process; !p.isDead() && p.stopping() && !p.hasEnded(); {
			if time.Now().After(deadline) {
				w.judge.fail("%s did not stop within %v of its last fault", m.id, longest)
				return
			}
			w.wait(time.Second)
		}
		if m.process.isDead() || m.process.hasEnded() {
			m.process = w.start(m.id, m.machine)
		}
	}
}

// settle waits until one member leads, and all others know.
func (w *world) settle() {
	for deadline := time.Now().Add(longest); !w.agree(); w.wait(100*time.Millisecond + 1) {
		if w.failed() != nil {
			return
		}
		if time.Now().After(deadline) {
			w.judge.fail("G4: %v after the last fault there is no leader that all know of", longest)
			return
		}
	}
}

// agree reports whether one callback runs, its member leads, and every member sees this leader and
// all members.
func (w *world) agree() bool {
	r := w.judge.leader()
	if r == nil || !r.process.elector.IsLeader() {
		return false
	}
	for _, m := range w.members {
		leader, ok := m.process.elector.GetLeader()
		if !ok || leader.ID != r.process.id || len(m.process.elector.GetMembers()) != len(w.members) {
			return false
		}
	}
	return true
}

// stay lets time pass in which the leader may not change: without a fault no leadership ends.
func (w *world) stay() {
	r := w.judge.leader()
	w.wait(2*w.longestLease() + time.Duration(w.dice.Int64N(int64(time.Second))))
	if w.judge.leader() != r && w.failed() == nil {
		w.judge.fail("%s lost its leadership in term %d without a fault", r.process.id, r.term)
	}
}

// longestLease is the longest lease of a member, as the slowest clock has it.
func (w *world) longestLease() (d time.Duration) {
	for _, m := range w.members {
		d = max(d, m.process.lease.duration)
	}
	return time.Duration(float64(d) / w.plan.slowest)
}

// replaceCrashed crashes the leader. The others saw its last renewal at their next poll, and wait
// for its lease from there. Or the member is back at once and does not want to lead. Then the
// others may have to wait until its new process releases, when the lease of the earlier one is
// over: one more poll.
func (w *world) replaceCrashed() {
	r := w.judge.leader()
	r.process.crash()
	polls := time.Duration(1)
	if w.dice.IntN(2) == 0 {
		for _, m := range w.members {
			if m.process == r.process {
				m.process = w.start(m.id, m.machine)
				// The new process looks by now: else it might, or might not, be asked before.
				synctest.Wait()
				w.resign(m.process, 2*w.longestLease())
				polls = 2
			}
		}
	}
	w.replaced(r, "crashed", func(m *member) time.Duration {
		return m.machine.real(r.process.lease.duration + polls*m.process.lease.renewInterval)
	})
	if polls == 2 {
		w.wait(2 * w.longestLease())
	}
}

// replaceResigned has the leader resign, for long enough that another one leads. Within one poll of
// the callback's return another one has to lead.
func (w *world) replaceResigned() {
	r := w.judge.leader()
	w.resign(r.process, w.longestLease())
	for w.failed() == nil && !w.judge.hasReturned(r) {
		w.wait(time.Millisecond)
	}
	w.replaced(r, "resigned", func(m *member) time.Duration { return m.machine.real(m.process.lease.renewInterval) })
}

// replaced checks that another member leads in time: in that of the slowest member, because any of
// them may be the one that acquires.
func (w *world) replaced(r *reign, how string, within func(*member) time.Duration) {
	start, bound := time.Now(), time.Duration(0)
	for _, m := range w.members {
		if m.process != r.process {
			bound = max(bound, within(m)+slack)
			if w.plan.faults.Stale > 0 { // some polls in a row may bring nothing new
				bound += stalePolls * m.machine.real(m.process.lease.renewInterval)
			}
		}
	}
	for w.failed() == nil && w.judge.last() == r {
		if time.Since(start) > bound {
			w.judge.fail("G4: %v after %s %s nobody leads", bound, r.process.id, how)
		}
		w.wait(10 * time.Millisecond)
	}
}

// leave shuts every member down. Each has to return the error of its ctx, and nothing of them may
// be left in the database.
func (w *world) leave() {
	for _, m := range w.members {
		w.wait(time.Duration(w.dice.Int64N(int64(10*time.Millisecond))) + 1)
		m.process.cancel()
	}
	for _, m := range w.members {
		p := m.process
		select {
		case <-p.ended:
		case <-time.After(longest):
			w.judge.fail("%s did not stop", p.id)
			return
		}
		if !errors.Is(p.err, context.Canceled) {
			w.judge.fail("%s stopped with the error %v", p.id, p.err)
		}
	}
	if w.database == nil {
		return
	}
	left := w.database.Read(0, 0).Members
	if !w.plan.mixed { // else what one process kept apart may be out of the others' reach
		left = append(left, w.database.ReadMembers(0, 0, nil)...)
	}
	if r := w.database.Read(0, 0); r.LeaderID != "" || len(left) > 0 {
		w.judge.fail("%d members and the leader %q are left when all have stopped", len(left), r.LeaderID)
	}
}

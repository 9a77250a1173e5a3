package election

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// member is a participant that has seen nothing.
func member(id string) *participant {
	p := newParticipant(Config{ID: id, LeaseDuration: 10 * time.Second, RenewInterval: 2 * time.Second, RenewDeadline: 8 * time.Second}, "nonce of "+id)
	return &p
}

var campaigning = want{campaign: true, due: true}

// turn lets p read rec, write what it plans, and have that stored.
func (p *participant) turn(t *testing.T, rec *Record, now time.Duration, w want) (*Record, move) {
	t.Helper()
	if !p.isOld(rec) {
		p.applyRecord(rec.Clone(), now)
	}
	before := rec.Clone()
	planned := p.plan(rec, at(now), w)
	require.Equal(t, before, rec, "plan leaves the record as it was")
	if planned.record == nil {
		return nil, planned.move
	}
	require.False(t, planned.record.Unguarded)
	if p.provesLoss(&planned, rec) {
		p.rejoinAsNewcomer(now)
	}
	p.handleStored(&planned, now)
	return planned.record.Clone(), planned.move
}

func TestPlanAcquiresAboveEveryTermKnown(t *testing.T) {
	for _, rec := range []*Record{
		{Version: 41}, {Term: 41}, {TermFloor: 41}, {Version: 2, Term: 41}, {Version: 3, Term: 1, TermFloor: 41},
	} {
		a := member("a")
		next, m := a.turn(t, rec, 0, campaigning)
		if rec.TermFloor > 0 { // news of a lost reign, which may last
			require.NotEqual(t, moveAcquire, m)
			next, m = a.turn(t, next, a.longestLease, campaigning)
		}
		require.Equal(t, moveAcquire, m)
		require.Equal(t, uint64(42), next.Term)
		require.Equal(t, "a", next.LeaderID)
		require.Zero(t, next.TermFloor)
	}
	a := member("a")
	a.highestTerm = 41
	next, _ := a.turn(t, &Record{}, 0, campaigning)
	require.Equal(t, uint64(42), next.Term)

	a = member("a")
	a.highestTerm = math.MaxInt64 // no news
	_, m := a.turn(t, &Record{TermFloor: math.MaxInt64}, 0, campaigning)
	require.Equal(t, moveExhausted, m)
}

func TestPlanWaitsForTheLeadersLease(t *testing.T) {
	a, b := member("a"), member("b")
	rec, _ := a.turn(t, &Record{}, 0, campaigning)
	_, m := b.turn(t, rec, 0, want{campaign: true})
	require.Equal(t, moveWait, m)
	rec, m = b.turn(t, rec, time.Second, campaigning)
	require.Equal(t, moveRenew, m)
	rec, m = b.turn(t, rec, 10*time.Second-1, campaigning)
	require.Equal(t, moveRenew, m)
	rec, m = b.turn(t, rec, 10*time.Second, campaigning)
	require.Equal(t, moveAcquire, m)
	require.Len(t, rec.Members, 1, "the one whose lease is over is evicted")
}

func TestPlanRenewsReleasesAndLeaves(t *testing.T) {
	a := member("a")
	rec, _ := a.turn(t, &Record{}, 0, campaigning)
	term := rec.Term
	_, m := a.turn(t, rec, time.Second, want{reign: term})
	require.Equal(t, moveWait, m, "not due")
	renewed, m := a.turn(t, rec, 2*time.Second, want{reign: term, due: true})
	require.Equal(t, moveRenew, m)
	require.False(t, changesLeader(rec, renewed))
	own, _ := renewed.FindMember("a")
	require.Equal(t, uint64(2), own.Renewals)

	_, m = a.turn(t, renewed, 3*time.Second, want{reign: term, due: true, overrun: true})
	require.Equal(t, moveWait, m, "an overrun callback: the lease lapses, nothing is released")

	heir := &Nominee{"b", "nonce of b"}
	released, m := a.turn(t, renewed, 4*time.Second, want{campaign: true, release: term, nominee: heir})
	require.Equal(t, moveRelease, m)
	require.True(t, changesLeader(renewed, released))
	require.Empty(t, released.LeaderID)
	require.Equal(t, heir, released.Nominee)
	require.Equal(t, term, released.Term)

	gone, m := a.turn(t, renewed, 5*time.Second, want{leave: true})
	require.Equal(t, moveLeave, m)
	require.Empty(t, gone.LeaderID)
	require.Empty(t, gone.Members)
	_, m = a.turn(t, gone, 6*time.Second, want{leave: true})
	require.Equal(t, moveLeft, m)
}

// Recorded without a running callback: acquire anew, in a term of its own, or
// give back what is not wanted.
func TestPlanNeverStartsATermTwice(t *testing.T) {
	a := member("a")
	rec, _ := a.turn(t, &Record{}, 0, campaigning)
	again, m := a.turn(t, rec, time.Second, campaigning)
	require.Equal(t, moveAcquire, m)
	require.Greater(t, again.Term, rec.Term)
	require.True(t, changesLeader(rec, again))
	_, m = a.turn(t, again, 2*time.Second, want{due: true})
	require.Equal(t, moveRelease, m)
}

func TestPlanLeavesTheNominationToTheHeir(t *testing.T) {
	rec := &Record{Version: 9, Term: 3, Nominee: &Nominee{"b", "nonce of b"}}
	c := member("c")
	joined, m := c.turn(t, rec, 0, campaigning)
	require.Equal(t, moveRenew, m)
	require.NotNil(t, joined.Nominee)
	joined, m = c.turn(t, joined, 2*time.Second-1, campaigning)
	require.Equal(t, moveRenew, m)
	taken, m := c.turn(t, joined, 2*time.Second, campaigning)
	require.Equal(t, moveAcquire, m, "one RenewInterval after first sight")
	require.Nil(t, taken.Nominee)

	taken, m = member("b").turn(t, rec, 0, campaigning)
	require.Equal(t, moveAcquire, m)
	require.Nil(t, taken.Nominee)
	declined, m := member("b").turn(t, rec, 0, want{})
	require.Equal(t, moveRenew, m, "also when it is not due")
	require.Nil(t, declined.Nominee)

	restarted := member("b")
	restarted.ownNonce = "another process"
	_, m = restarted.turn(t, rec, 0, campaigning)
	require.Equal(t, moveRenew, m, "the nomination is another process's")
}

func TestPlanKeepsItsHandsOffAnotherProcesssEntry(t *testing.T) {
	entry := func(renewals uint64, nonce string) *Record {
		return &Record{LeaderID: "a", Term: 1, Version: int64(renewals), Members: []*Member{
			{ID: "a", Nonce: nonce, Renewals: renewals, RenewTime: time.Unix(int64(renewals), 0), LeaseDuration: 5 * time.Second}}}
	}
	for _, nonce := range []string{"another", ""} {
		a := member("a")
		_, m := a.turn(t, entry(1, nonce), 0, campaigning)
		require.Equal(t, moveWait, m)
		_, m = a.turn(t, entry(2, nonce), time.Second, campaigning)
		require.Equal(t, moveWait, m, "one advance may be the last of a process that died")
		_, m = a.turn(t, entry(3, nonce), 5*time.Second-1, campaigning)
		require.Equal(t, moveWait, m, "more of them may be a replica's that catches up")
		_, m = a.turn(t, entry(4, nonce), 5*time.Second, campaigning)
		require.Equal(t, moveDuplicate, m)

		a = member("a")
		_, m = a.turn(t, entry(1, nonce), 0, campaigning)
		require.Equal(t, moveWait, m)
		require.Equal(t, 5*time.Second, a.ownExpiry())
		_, m = a.turn(t, entry(1, nonce), 5*time.Second, campaigning)
		require.Equal(t, moveAcquire, m)
		_, m = a.turn(t, entry(9, nonce), 6*time.Second, campaigning)
		require.Equal(t, moveDuplicate, m, "after it joined, at once")
	}
}

// LeaderID is this member's, from an earlier process whose entry is gone: that
// process may live, so its lease is waited for.
func TestPlanWaitsForItsEarlierLife(t *testing.T) {
	a := member("a")
	rec := &Record{LeaderID: "a", Term: 5, Version: 9}
	rec, m := a.turn(t, rec, 0, campaigning)
	require.Equal(t, moveRenew, m)
	rec, m = a.turn(t, rec, 9*time.Second, campaigning)
	require.Equal(t, moveRenew, m)
	rec, m = a.turn(t, rec, 10*time.Second, campaigning)
	require.Equal(t, moveAcquire, m)
	require.Equal(t, uint64(12), rec.Term)
}

// A process that may not acquire yet, as the record tells of a lost reign, does not keep the others from it:
// it releases for its earlier life, whether it campaigns or not, and the record goes on telling.
func TestPlanReleasesForItsEarlierLifeWhileItMayNotAcquire(t *testing.T) {
	for _, w := range []want{{due: true}, campaigning} {
		a := member("a")
		rec := &Record{
			Version: 7, LeaderID: "a", Term: 1, TermFloor: 293, FloorLease: time.Minute,
			Members: []*Member{{ID: "a", Nonce: "earlier", Renewals: 3, LeaseDuration: 5 * time.Second}},
		}
		_, m := a.turn(t, rec, 0, w)
		require.Equal(t, moveWait, m)
		next, m := a.turn(t, rec, 5*time.Second, w)
		require.Equal(t, moveRelease, m)
		require.Empty(t, next.LeaderID)
		require.Equal(t, uint64(293), next.TermFloor)
		require.Equal(t, time.Minute, next.FloorLease)
		_, m = a.turn(t, next, 59*time.Second, w)
		require.NotEqual(t, moveAcquire, m)
	}
}

func TestPlanAfterHistoryWentBack(t *testing.T) {
	a := member("a")
	rec, _ := a.turn(t, &Record{Version: 50, Term: 7}, 0, campaigning)
	reign := rec.Term
	next, m := a.turn(t, &Record{Version: 3, Term: 2}, time.Second, campaigning)
	require.Equal(t, moveRenew, m, "an old record is never acquired on")
	require.Equal(t, reign, next.TermFloor, "the record is told what this member remembers")
	next, m = a.turn(t, next, 11*time.Second-1, campaigning)
	require.Equal(t, moveRenew, m)
	next, m = a.turn(t, next, 11*time.Second, campaigning)
	require.Equal(t, moveAcquire, m)
	require.Greater(t, next.Term, reign)
}

// Whoever first reads of a reign that is lost waits for the longest lease that the record
// shows, or that whoever left word of it knows: also if the reader's own is shorter.
func TestFloorIsWaitedOutByTheLongestLease(t *testing.T) {
	for name, rec := range map[string]*Record{
		"told":  {Version: 3, Term: 2, TermFloor: 7, FloorLease: 30 * time.Second},
		"shown": {Version: 3, Term: 2, TermFloor: 7, Members: []*Member{entryOf("c", 1, 30*time.Second)}},
	} {
		t.Run(name, func(t *testing.T) {
			b := member("b")
			next, m := b.turn(t, rec, 0, campaigning)
			require.Equal(t, moveRenew, m)
			require.Equal(t, 30*time.Second, next.FloorLease, "and passes it on")
			next, m = b.turn(t, next, 30*time.Second-1, campaigning)
			require.Equal(t, moveRenew, m)
			next, m = b.turn(t, next, 30*time.Second, campaigning)
			require.Equal(t, moveAcquire, m)
			require.Zero(t, next.FloorLease)
		})
	}
	b := member("b")
	b.turn(t, &Record{Version: 3, Term: 2, TermFloor: 7, FloorLease: 1 << 62}, 0, campaigning)
	require.Equal(t, MaxLeaseDuration, b.noAcquireBefore, "no record bars for longer")
}

// A write that proves a loss of history proves it too when its acknowledgement was lost, and
// the next read shows it stored.
func TestLossIsProvedByAWriteOfUnknownOutcome(t *testing.T) {
	a := member("a")
	a.keepsMemberRows, a.ownRowKnown = true, true
	led := &Record{LeaderID: "z", Term: 5, Version: 9, Members: []*Member{entryOf("z", 1, 10*time.Second)}}
	led.Members[0].Protocol = 1
	a.applyRecord(led.Clone(), 0)
	joined := a.plan(led, at(0), want{due: true, leap: 9})
	require.NotNil(t, joined.after)
	a.handleStored(&joined, 0)

	free := &Record{Term: 5, Version: 12} // others have gone on from an older state
	older := joined.after.Clone()
	older.Renewals--
	a.applyOwnRow([]*Member{older}, time.Second)
	a.applyRecord(free.Clone(), time.Second)
	acquires := a.plan(free, at(time.Second), campaigning)
	require.Equal(t, moveAcquire, acquires.move)
	a.noteProof(&acquires, free)
	a.forgetOwnRow(&acquires)
	stored := acquires.record.Clone()
	stored.Version++
	require.True(t, a.provedLoss(stored))
	a.rejoinAsNewcomer(2 * time.Second)
	require.False(t, a.provedLoss(stored), "once")
	require.Equal(t, 12*time.Second, a.noAcquireBefore)
}

func TestLost(t *testing.T) {
	a := member("a")
	rec, _ := a.turn(t, &Record{}, 0, campaigning)
	rec, _ = a.turn(t, rec, time.Second, want{reign: rec.Term, due: true})
	change := func(f func(*Record)) *Record { c := rec.Clone(); f(c); return c }
	require.NoError(t, a.lossCause(rec, rec.Term, time.Second))
	require.Equal(t, ErrLeaseExpired, a.lossCause(change(func(r *Record) { r.LeaderID = "b"; r.Term++ }), rec.Term, time.Second))
	require.Equal(t, ErrLeaseExpired, a.lossCause(change(func(r *Record) { r.LeaderID = "" }), rec.Term, time.Second))
	for _, gone := range []*Record{
		change(func(r *Record) { r.Unguarded = true }),
		change(func(r *Record) { r.Term-- }),
		change(func(r *Record) { r.Members[0].Renewals-- }),
	} {
		require.Equal(t, ErrHistoryLost, a.lossCause(gone, rec.Term, time.Second))
	}
}

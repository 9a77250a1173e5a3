package election

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// copyOf is what a snapshot of p's process holds of it.
func copyOf(p *participant) *participant {
	q := *p
	q.terms, q.members, q.recordEntries, q.rows.byID = maps.Clone(p.terms), maps.Clone(p.members), maps.Clone(p.recordEntries), maps.Clone(p.rows.byID)
	return &q
}

// A leader is copied. Of the two one renews first; the other one finds that out at its next
// look, whether or not it tried to write meanwhile, and whatever the wall clocks say.
func TestCopyOfALeaderIsFound(t *testing.T) {
	for _, triesFirst := range []bool{false, true} {
		t.Run(fmt.Sprint("the second one tries to write ", triesFirst), func(t *testing.T) {
			a := member("a")
			rec, _ := a.turn(t, &Record{}, 0, campaigning)
			b := copyOf(a)
			renewing := func(leap uint64) want { return want{reign: rec.Term, due: true, leap: leap} }
			renewed, m := a.turn(t, rec, 2*time.Second, renewing(3))
			require.Equal(t, moveRenew, m)
			if triesFirst {
				w := b.plan(rec, at(2*time.Second), renewing(5))
				require.Equal(t, moveRenew, w.move)
				b.handleConflict(&w)
			}
			require.True(t, b.foundCopy(renewed, 2*time.Second))
			_, m = b.turn(t, renewed, 2*time.Second, renewing(5))
			require.Equal(t, moveDuplicate, m)
			_, m = a.turn(t, renewed, 4*time.Second, renewing(7))
			require.Equal(t, moveRenew, m, "the first one goes on")
		})
	}
}

// A copied process that has no reign becomes a newcomer under another nonce: it leaves alone
// what the other one writes, and takes over when that has stood still for its lease.
func TestCopyOfAFollowerStartsAnew(t *testing.T) {
	a := member("a")
	a.turn(t, &Record{LeaderID: "z", Term: 1, Version: 1, Members: []*Member{entryOf("z", 1, 10*time.Second)}}, 0, campaigning)
	b := copyOf(a)
	at := func(version int64) *Record {
		return &Record{LeaderID: "z", Term: 1, Version: version, Members: []*Member{entryOf("z", uint64(version), 10*time.Second)}}
	}
	rec, _ := a.turn(t, at(2), time.Second, want{due: true, leap: 3})
	require.True(t, b.foundCopy(rec, time.Second))
	b.rejoinAsNewcomer(time.Second)
	b.takeNewNonce("another")
	for i, move := range []move{moveWait, moveWait, moveRenew} {
		next := at(3 + int64(i))
		own, _ := rec.FindMember("a")
		next.put(own)
		_, m := b.turn(t, next, time.Duration(2+5*i)*time.Second, campaigning)
		require.Equal(t, move, m, "after %d s", 5*i)
	}
}

// What a process may itself have written it takes for its own, whatever came of it.
func TestOwnWritesAreNoCopys(t *testing.T) {
	a := member("a")
	rec, _ := a.turn(t, &Record{}, 0, campaigning)
	dice := rand.New(rand.NewPCG(1, 1))
	renewing := func() want { return want{reign: rec.Term, due: true, leap: dice.Uint64()} }
	for range 200 {
		var stored *Record
		for range dice.IntN(len(a.written.recent)) { // of unknown outcome: any of them may be stored, or none
			w := a.plan(rec, at(0), renewing())
			require.Equal(t, moveRenew, w.move)
			a.forgetOwnRow(&w)
			if stored == nil || dice.IntN(3) == 0 {
				stored = w.record.Clone()
				stored.Version++
			}
		}
		if stored != nil && dice.IntN(2) == 0 {
			rec = stored
		}
		require.False(t, a.foundCopy(rec, 0))
		next, m := a.turn(t, rec, 0, renewing())
		require.Equal(t, moveRenew, m)
		own, _ := next.FindMember("a")
		require.Less(t, own.Renewals, uint64(1)<<53, "every reader of JSON can tell it from the next one")
		rec = next
	}
}

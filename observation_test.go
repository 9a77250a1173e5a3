package election

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func seenBy(o *observation, now time.Duration, r Record) {
	o.applyRecord(&r, now)
}

func entryOf(id string, renewals uint64, lease time.Duration) *Member {
	return &Member{ID: id, Nonce: "nonce of " + id, Renewals: renewals,
		RenewTime: time.Unix(int64(renewals), 0), LeaseDuration: lease}
}

func TestObservationJudgesByStandingStill(t *testing.T) {
	o := newObservation("me", "mine", 10*time.Second)
	seenBy(&o, 1*time.Second, Record{LeaderID: "a", Term: 1, Version: 1, Members: []*Member{entryOf("a", 1, 7*time.Second)}})
	require.Equal(t, 8*time.Second, o.takeOverAt(), "its own lease, from first sight")
	seenBy(&o, 5*time.Second, Record{LeaderID: "a", Term: 1, Version: 2, Members: []*Member{entryOf("a", 1, 7*time.Second)}})
	require.Equal(t, 8*time.Second, o.takeOverAt(), "another version is no sign of life")
	seenBy(&o, 6*time.Second, Record{LeaderID: "a", Term: 1, Version: 3, Members: []*Member{entryOf("a", 2, 7*time.Second)}})
	require.Equal(t, 13*time.Second, o.takeOverAt())
	require.False(t, o.expired("a", 13*time.Second-1))
	require.True(t, o.expired("a", 13*time.Second))
	require.False(t, o.expired("unknown", time.Hour))
}

func TestObservationOfALeaderWithoutAnEntry(t *testing.T) {
	o := newObservation("me", "mine", 10*time.Second)
	seenBy(&o, 0, Record{LeaderID: "a", Term: 1, Version: 1, Members: []*Member{entryOf("a", 1, time.Second), entryOf("b", 1, time.Minute)}})
	require.Equal(t, time.Second, o.takeOverAt())
	seenBy(&o, 500*time.Millisecond, Record{LeaderID: "a", Term: 1, Version: 2, Members: nil})
	require.Equal(t, time.Minute+500*time.Millisecond, o.takeOverAt(), "the longest lease seen, from when the entry was missed")
}

// An older member rewrites the record and drops nonces and counters: that makes
// nobody look alive, and renewals that follow count by RenewTime.
func TestObservationOfStrippedEntries(t *testing.T) {
	o := newObservation("me", "mine", 10*time.Second)
	full := entryOf("a", 5, 10*time.Second)
	stripped := &Member{ID: "a", RenewTime: full.RenewTime, LeaseDuration: full.LeaseDuration}
	renewed := &Member{ID: "a", RenewTime: full.RenewTime.Add(1), LeaseDuration: full.LeaseDuration}
	for i, step := range []struct {
		entry   *Member
		changed bool
	}{{full, true}, {stripped, false}, {full, false}, {stripped, false}, {renewed, true}, {entryOf("a", 6, 10*time.Second), true}} {
		now := time.Duration(i+1) * time.Second
		before := o.members["a"].since
		seenBy(&o, now, Record{LeaderID: "a", Term: 1, Version: int64(i + 1), Members: []*Member{step.entry}})
		if step.changed {
			require.Equal(t, now, o.members["a"].since, "step %d", i)
		} else {
			require.Equal(t, before, o.members["a"].since, "step %d", i)
		}
	}
}

// In a record that names this member in a reign of an earlier process, our own
// entry is no sign of life of that reign.
func TestObservationOfAnEarlierLifesReign(t *testing.T) {
	o := newObservation("me", "mine", 10*time.Second)
	own := func(n uint64) *Member {
		return &Member{ID: "me", Nonce: "mine", Renewals: n, RenewTime: time.Unix(int64(n), 0)}
	}
	seenBy(&o, 0, Record{LeaderID: "me", Term: 4, Version: 1})
	for n := range uint64(9) {
		seenBy(&o, time.Duration(n+1)*time.Second, Record{LeaderID: "me", Term: 4, Version: int64(n) + 2, Members: []*Member{own(n)}})
	}
	require.Equal(t, 10*time.Second, o.takeOverAt())
}

// The leader's entry was lost from the record, and a second process under its ID,
// with a shorter lease, has put its own there. That does not end the reign sooner:
// not for others, and not for that process.
func TestObservationOfAnotherEntryUnderTheLeadersID(t *testing.T) {
	leads := func(version int64, members ...*Member) Record {
		return Record{LeaderID: "a", Term: 1, Version: version, Members: members}
	}
	usurper := &Member{ID: "a", Nonce: "other", Renewals: 1, RenewTime: time.Unix(1, 0), LeaseDuration: 2 * time.Second}
	for name, o := range map[string]observation{
		"others":          newObservation("me", "mine", 3*time.Second),
		"the new process": newObservation("a", "other", 2*time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			seenBy(&o, 1*time.Second, leads(1, entryOf("a", 1, 9*time.Second)))
			seenBy(&o, 2*time.Second, leads(2))
			require.Equal(t, 11*time.Second, o.takeOverAt())
			seenBy(&o, 3*time.Second, leads(3, usurper))
			require.GreaterOrEqual(t, o.takeOverAt(), 11*time.Second)
		})
	}
}

func TestObservationLosesHistory(t *testing.T) {
	o := newObservation("me", "mine", 10*time.Second)
	seenBy(&o, 0, Record{LeaderID: "a", Term: 9, Version: 100, Members: []*Member{entryOf("a", 1, 30*time.Second)}})
	require.True(t, o.isOld(&Record{Version: 99}))
	require.False(t, o.isOld(&Record{Version: 100}))
	o.loseHistory(5 * time.Second)
	require.Equal(t, 35*time.Second, o.noAcquireBefore, "the longest lease seen")
	require.False(t, o.isOld(&Record{}))
	require.Equal(t, uint64(9), o.highestTerm, "terms are not forgotten")
}

package election

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/clock"
)

// What an observation makes of the entries that may have changed is what it would
// make of all of them.
func TestSightingsOfSomeAreThoseOfAll(t *testing.T) {
	for seed := range uint64(200) {
		w := newSightedWorld(seed)
		for range 60 {
			w.step()
			require.Equal(t, w.all.members, w.some.members, "seed %d", seed)
			require.Equal(t, w.all.leader, w.some.leader, "seed %d", seed)
			require.Equal(t, w.all.longestLease, w.some.longestLease, "seed %d", seed)
			require.Equal(t, w.all.takeOverAt(), w.some.takeOverAt(), "seed %d", seed)
			for _, at := range []time.Duration{w.now, w.now + 5*time.Second, w.now + 25*time.Second} {
				if v := w.some.show(stoppedClock{at: at}, ""); w.some.newest != nil {
					require.Equal(t, w.want(at), told(v.liveMembers()), "seed %d", seed)
					require.True(t, slices.IsSortedFunc(v.liveMembers(), func(a, b *Member) int { return cmp.Compare(a.ID, b.ID) }))
				}
			}
		}
	}
}

// sightedWorld is what two observations see: one of them looks at every entry again
// each time.
type sightedWorld struct {
	*rand.Rand
	some, all observation
	now       time.Duration
	version   int64
	renewals  uint64
}

func newSightedWorld(seed uint64) *sightedWorld {
	return &sightedWorld{
		Rand: rand.New(rand.NewPCG(seed, 0)),
		some: newObservation("m0", "nonce of m0", 10*time.Second),
		all:  newObservation("m0", "nonce of m0", 10*time.Second),
	}
}

func (w *sightedWorld) step() {
	w.now += time.Duration(w.IntN(4000)) * time.Millisecond
	switch what := w.IntN(8); {
	case what == 0 && w.some.newest != nil:
		found := w.entries(5)
		w.both(func(o *observation) { o.setMemberRows(found, rosterOf(found), w.now) })
	case what == 1:
		found := slices.DeleteFunc(w.entries(5), func(m *Member) bool { return m.ID != "m0" })
		w.both(func(o *observation) { o.setOwnRow(found, w.now) })
	case what == 2 && w.some.newest != nil: // as in participant.stored
		own := w.entry("m0")
		w.both(func(o *observation) { o.rows.byID["m0"] = own; o.applyRecord(o.newest, w.now) })
	case what == 3 && w.IntN(8) == 0:
		w.both(func(o *observation) { o.loseHistory(w.now) })
	default:
		w.version++
		rec := &Record{LeaderID: w.id(), Term: uint64(w.version / 4), Version: w.version, Members: w.entries(1 + w.IntN(3))}
		w.both(func(o *observation) { o.applyRecord(rec, w.now) })
	}
}

func (w *sightedWorld) both(see func(o *observation)) {
	w.all.stale = true
	see(&w.some)
	see(&w.all)
}

func (w *sightedWorld) id() string { return fmt.Sprint("m", w.IntN(6)) }

func (w *sightedWorld) entry(id string) *Member {
	w.renewals++
	m := entryOf(id, w.renewals-min(w.renewals, uint64(w.IntN(3))), time.Duration(w.IntN(20))*time.Second)
	m.Protocol = w.IntN(2)
	if w.IntN(8) == 0 {
		m.Nonce = ""
	}
	return m
}

func (w *sightedWorld) entries(most int) (found []*Member) {
	for range w.IntN(most + 1) {
		if id := w.id(); !slices.ContainsFunc(found, func(m *Member) bool { return m.ID == id }) {
			found = append(found, w.entry(id))
		}
	}
	return found
}

// want is what a view is to show after a while, made entry by entry.
func (w *sightedWorld) want(at time.Duration) []string {
	o, live := &w.all, []*Member{}
	for id, s := range o.members {
		until := s.since + s.lease
		if o.rows.byID[id] != nil && !o.rows.tracked && o.leaderKnowsRows() {
			until = max(until, o.takeOverAt()+s.lease)
		}
		if at < until {
			live = append(live, o.entryOf(id))
		}
	}
	return told(live)
}

// told is sorted by ID.
func told(members []*Member) (told []string) {
	for _, m := range members {
		told = append(told, fmt.Sprintf("%s: %q %d", m.ID, m.Nonce, m.Renewals))
	}
	slices.Sort(told)
	return told
}

// stoppedClock always shows the same time.
type stoppedClock struct {
	clock.Clock
	at time.Duration
}

func (c stoppedClock) Now() clock.Instant { return clock.Instant{Mono: c.at} }

func TestLookTakesNoMoreOfAThousandMembers(t *testing.T) {
	looks := func(members int) float64 {
		o := newObservation("follower", "nonce", 10*time.Second)
		var found []*Member
		for i := range members {
			found = append(found, entryOf(fmt.Sprint("m", i), 1, 10*time.Second))
		}
		version := int64(0)
		look := func() {
			version++
			leader := entryOf("leader", uint64(version), 10*time.Second)
			o.rows.byID["follower"] = entryOf("follower", uint64(version), 10*time.Second)
			o.applyRecord(&Record{LeaderID: "leader", Term: 1, Version: version, Members: []*Member{leader}}, time.Duration(version))
			_ = o.show(nil, "")
		}
		look()
		o.setMemberRows(found, 0, 1)
		return testing.AllocsPerRun(100, look)
	}
	require.Equal(t, looks(3), looks(1000))
}

package sim

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sqlelect/election"
)

// court is a judge and two members whose callbacks may take a second to return.
type court struct {
	*judge
	a, b *process
}

func newCourt() court {
	j := newJudge(newTrace(), 0)
	member := func(id string) *process {
		dice := rand.New(rand.NewPCG(1, 1))
		return &process{
			id: id, seat: newSeat(newMachine(1, dice), dice, dice), acquired: map[uint64]uint64{}, told: map[uint64]bool{}, reigns: map[named]time.Time{},
			lease: lease{renewInterval: time.Second, allowed: time.Second},
		}
	}
	return court{j, member("a"), member("b")}
}

// leads is an acquisition by p, and the start of its callback.
func (c court) leads(p *process, term uint64) (r *reign, end context.CancelFunc) {
	c.stored(p, &election.Record{}, &election.Record{LeaderID: p.id, Term: term}, true)
	ctx, cancel := context.WithCancel(context.Background())
	return c.enter(p, term, ctx), cancel
}

func TestJudge(t *testing.T) {
	second := func(n float64) { time.Sleep(time.Duration(n * float64(time.Second))) } // virtual time
	for name, test := range map[string]struct {
		happens func(c court)
		want    string // "" for no violation
	}{
		"one after the other": {func(c court) {
			r, end := c.leads(c.a, 1)
			end()
			c.exit(r)
			c.leads(c.b, 2)
		}, ""},
		"two at once": {func(c court) {
			c.leads(c.a, 1)
			c.leads(c.b, 2)
		}, "G2: a callback of b started in term 2 while that of a in term 1 ran"},
		"before the first has had its time to return": {func(c court) {
			_, end := c.leads(c.a, 1)
			end()
			second(0.9)
			c.leads(c.b, 2)
		}, "G2"},
		"when the first has had its time to return": {func(c court) {
			_, end := c.leads(c.a, 1)
			end()
			second(1.1)
			c.leads(c.b, 2)
		}, ""},
		"while the first is stopped": {func(c court) {
			c.leads(c.a, 1)
			c.a.machine().stop(time.Minute, false)
			second(30)
			c.leads(c.b, 2)
		}, ""},
		"long after the first was stopped": {func(c court) {
			c.leads(c.a, 1)
			c.a.machine().stop(time.Minute, true)
			second(62)
			c.leads(c.b, 2)
		}, "G2"},
		"the first has died": {func(c court) {
			c.leads(c.a, 1)
			c.gone(c.a)
			c.leads(c.b, 2)
		}, ""},
		"a reign is lost, which the second has read of": {func(c court) {
			c.leads(c.a, 1)
			c.b.saw(&election.Record{LeaderID: "a", Term: 1, Version: 3})
			second(1)
			c.lost(&election.Record{})
			c.leads(c.b, 2)
		}, "G2"},
		"renewals are lost, of which the second has read none": {func(c court) {
			c.leads(c.a, 1)
			c.b.saw(&election.Record{LeaderID: "a", Term: 1, Version: 3})
			second(1)
			c.lost(&election.Record{LeaderID: "a", Term: 1, Version: 3})
			c.leads(c.b, 2)
		}, ""},
		"a reign is lost, which the second was told of": {func(c court) {
			c.leads(c.a, 1)
			second(1)
			c.lost(&election.Record{})
			c.b.saw(&election.Record{TermFloor: 1})
			c.leads(c.b, 2)
		}, "G2"},
		"a reign is lost, and the second read of a later one alone": {func(c court) {
			c.leads(c.a, 1)
			second(1)
			c.lost(&election.Record{})
			c.b.saw(&election.Record{LeaderID: "c", Term: 2})
			c.leads(c.b, 3)
		}, ""},
		"a reign is lost, which the second never read of": {func(c court) {
			c.leads(c.a, 1)
			second(1)
			c.lost(&election.Record{})
			c.leads(c.b, 2)
		}, ""},
		"a term twice": {func(c court) { c.leads(c.a, 3); c.gone(c.a); c.leads(c.b, 3) }, "G1: b acquired term 3, after term 3"},
		"a lower term": {func(c court) { c.leads(c.a, 3); c.gone(c.a); c.leads(c.b, 2) }, "G1: b acquired term 2"},
		"a loss of renewals alone, after which others write on in its name": {func(c court) {
			_, end := c.leads(c.a, 1)
			for r := range c.reigns {
				r.version = 3
			}
			second(0.1)
			c.lost(&election.Record{LeaderID: "a", Term: 1, Version: 3})
			second(0.1)
			c.b.saw(&election.Record{LeaderID: "a", Term: 1, Version: 4})
			c.b.told[1] = true
			end()
			c.leads(c.b, 2)
		}, ""},
		"a loss of renewals that the other one has read": {func(c court) {
			_, end := c.leads(c.a, 1)
			for r := range c.reigns {
				r.version = 3
			}
			c.b.saw(&election.Record{LeaderID: "a", Term: 1, Version: 4})
			second(0.1)
			c.lost(&election.Record{LeaderID: "a", Term: 1, Version: 3})
			end()
			c.leads(c.b, 2)
		}, "G2"},
		"a copy that has gone on late, and not looked yet": {func(c court) {
			c.leads(c.a, 1)
			c.a.lease.renewDeadline = 3 * time.Second
			c.cloned(c.b, c.a, 5*time.Second)
			second(7)
			c.leads(c.b, 2)
		}, ""},
		"a copy that has had the time to look": {func(c court) {
			c.leads(c.a, 1)
			c.a.lease.renewDeadline = 3 * time.Second
			c.cloned(c.b, c.a, 5*time.Second)
			second(9)
			c.leads(c.b, 2)
		}, "G2"},
		"a lower term after a loss": {func(c court) { c.leads(c.a, 3); c.gone(c.a); c.lost(&election.Record{}); c.leads(c.b, 2) }, ""},
		"a term that it has read of": {func(c court) {
			c.a.saw(&election.Record{TermFloor: 7})
			c.sends(c.a, &election.Record{LeaderID: "a", Term: 7})
		}, "G1: a acquires term 7"},
		"a callback without an acquisition": {func(c court) {
			c.enter(c.a, 1, context.Background())
		}, "which it never acquired"},
		"two callbacks in one term": {func(c court) {
			r, _ := c.leads(c.a, 1)
			c.exit(r)
			c.enter(c.a, 1, context.Background())
		}, "G1: a second callback started in term 1"},
		"an entry in its term": {func(c court) { c.commit(c.a, 2, &election.Record{LeaderID: "a", Term: 2}) }, ""},
		"an entry of an earlier term": {func(c court) {
			c.commit(c.a, 2, &election.Record{LeaderID: "a", Term: 3})
		}, "G3: an entry of a in term 2"},
		"an entry under the leader row, in a record that a lost history has overwritten": {func(c court) {
			c.leads(c.a, 1)
			c.lost(&election.Record{})
			c.gone(c.a)
			c.leads(c.b, 2)
			c.stored(c.b, &election.Record{LeaderID: "b", Term: 2}, &election.Record{LeaderID: "a", Term: 1}, false)
			c.commit(c.b, 2, &election.Record{LeaderID: "a", Term: 2, Unguarded: true})
		}, ""},
		"an entry under the leader row, where a lost history's record says that nobody leads": {func(c court) {
			c.leads(c.a, 1)
			c.lost(&election.Record{})
			c.gone(c.a)
			c.leads(c.b, 1)
			c.stored(c.a, &election.Record{LeaderID: "b", Term: 1}, &election.Record{Term: 1}, false)
			c.commit(c.b, 1, &election.Record{Term: 1})
		}, ""},
		"another one is made the leader": {func(c court) {
			c.stored(c.a, &election.Record{}, &election.Record{LeaderID: "b", Term: 1}, true)
		}, "G1: a made b the leader"},
		"an entry while another leads": {func(c court) { c.commit(c.a, 2, &election.Record{LeaderID: "b", Term: 2}) }, "G3"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCourt()
				test.happens(c)
				synctest.Wait()
				got := c.verdict()
				if got == "" && test.want != "" || !strings.Contains(got, test.want) || test.want == "" && got != "" {
					t.Errorf("got %q, want %q", got, test.want)
				}
				time.Sleep(2 * time.Minute) // virtual time
			})
		})
	}
}

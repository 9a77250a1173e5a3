package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// plan is what a seed's world is like, before anything happens in it. Not every world has every
// fault: one fault may excuse what another one has caused.
type plan struct {
	members int
	length  time.Duration // of the restless part
	every   time.Duration // between two happenings, on average
	load    float64       // how much of G2's budget the callbacks use
	slowest float64       // rate of the slowest machine
	fastest float64       // and of the fastest
	faults  Faults

	beyond   bool // G2's budget is exceeded
	stops    bool // machines stop and sleep
	loses    bool // history is lost
	older    bool // a member of the four-column version takes part
	overruns bool // callbacks get stuck
	twins    bool // a second process runs under a member's ID
	uneven   bool // leases are short or long
	clones   bool // processes are cloned while they run
	apart    bool // members' entries can be kept apart from the record,
	mixed    bool // but not by all of them
	rings    bool // members are told of changes of leader, mostly
}

// Faults says how often a storage call goes wrong, and how. Every share is between 0 and 1; the
// zero value harms nothing.
type Faults struct {
	Delay         time.Duration // a call takes up to this on each way, most a small part of it
	Stale         float64       // share of the reads that return an old record
	Age           int           // how old such a record is at most, in versions
	Lag           time.Duration // how long ago such a record was replaced, at most; 0: no limit
	Refused       float64       // share of the calls that fail, and do nothing
	Lost          float64       // share of the calls that do their work, and then fail
	Stalled       float64       // share of the calls that are under way for up to Stall
	Stall         time.Duration
	IgnoreContext float64 // share of the stalled calls that ignore their ctx
	AppliedLate   float64 // share of the stalled writes that are applied although the caller gave up
}

// newPlan draws the world of a seed, with the given number of members, or 2 to 9 if that is 0.
func newPlan(dice *rand.Rand, members int, length time.Duration) plan {
	p := plan{members: members, length: length, load: 0.4 + 0.5*dice.Float64()}
	if members == 0 {
		p.members = 2 + dice.IntN(8)
	}
	p.every = time.Duration(10+dice.IntN(50)) * time.Second
	// Mistakes in the margins show only where callbacks use nearly all of G2's budget.
	tight := dice.IntN(3) == 0
	if tight {
		p.load = 0.9 + 0.1*dice.Float64()
		if dice.IntN(2) == 0 {
			p.load = 0.999 + 0.001*dice.Float64()
		}
	}
	p.beyond = dice.IntN(10) == 0
	p.stops = dice.IntN(3) == 0
	p.loses = dice.IntN(6) == 0
	// The four-column version numbers its reigns by the record's version, which a loss sets back.
	p.older = !p.loses && dice.IntN(8) == 0
	p.overruns = dice.IntN(4) == 0
	p.twins = dice.IntN(4) == 0
	p.uneven = dice.IntN(2) == 0
	p.clones = dice.IntN(5) == 0
	p.apart = dice.IntN(4) > 0
	p.mixed = dice.IntN(4) == 0
	p.rings = dice.IntN(2) == 0
	p.drawRates(dice)
	p.faults = drawFaults(dice)
	return p
}

// drawRates draws how far the clocks are apart. Beyond G2's budget callbacks may overlap; G1, G3
// and G4 still hold.
func (p *plan) drawRates(dice *rand.Rand) {
	spread := 1.0 // how much faster the fastest clock is
	switch {
	case p.beyond:
		spread = 1.5 + dice.Float64()
	case dice.IntN(2) == 0:
		spread = 1 + 0.3*dice.Float64()
	}
	p.slowest, p.fastest = 1/math.Sqrt(spread), math.Sqrt(spread)
}

// rate of a machine: somewhere between the slowest and the fastest, and often one of these, because
// the bounds of G2 are about the two.
func (p *plan) rate(dice *rand.Rand) float64 {
	switch dice.IntN(4) {
	case 0:
		return p.slowest
	case 1:
		return p.fastest
	}
	return p.slowest + (p.fastest-p.slowest)*dice.Float64()
}

// drawFaults draws the network of a world. In a third of the worlds it is slow. Stale, refused,
// lost and stalled calls are each missing from half of them.
func drawFaults(dice *rand.Rand) Faults {
	sometimes := func(most float64) float64 {
		if dice.IntN(2) == 0 {
			return 0
		}
		return most * dice.Float64()
	}
	delay := 40 * time.Millisecond
	if dice.IntN(3) == 0 {
		delay = 2 * time.Second
	}
	return Faults{
		Delay:         time.Millisecond + time.Duration(dice.Int64N(int64(delay))),
		Stale:         sometimes(0.3),
		Age:           1 + dice.IntN(20),
		Refused:       sometimes(0.05),
		Lost:          sometimes(0.05),
		Stalled:       sometimes(0.01),
		Stall:         30 * time.Second,
		IgnoreContext: sometimes(0.5),
		AppliedLate:   0.5,
	}
}

// lease is the timing of one process, by its own clocks.
type lease struct {
	duration, renewInterval, renewDeadline, stopTimeout time.Duration
	// stop is how long its callback takes to return, in real time, unless it is stuck. allowed is
	// the longest real time with which G2 holds: the lease by the fastest clock, less the leader's
	// trust by its own. It is negative if G2 never holds.
	stop, allowed time.Duration
}

// drawLease draws a configuration within the plan's budget, for a machine whose clocks have this
// rate.
func (p *plan) drawLease(dice *rand.Rand, rate float64) lease {
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	var l lease
	l.duration = seconds(5 + 15*dice.Float64())
	if p.uneven {
		l.duration = seconds(5 + 13*float64(dice.IntN(2)) + 2*dice.Float64())
	}
	l.renewInterval = time.Duration(float64(l.duration) * (0.1 + 0.15*dice.Float64()))
	// room is what the difference of the clocks' rates leaves for the deadline; most is also
	// bounded by what the configuration may be.
	room := float64(l.duration) * p.load * rate / p.fastest
	most := min(float64(l.duration-l.renewInterval), room)
	if p.beyond {
		most = float64(l.duration - l.renewInterval)
	}
	least := 2 * float64(l.renewInterval)
	l.renewDeadline = time.Duration(least + max(most-least, 0)*(0.3+0.7*dice.Float64()))
	l.allowed = time.Duration((float64(l.duration) - float64(l.renewDeadline)*p.fastest/rate) / p.fastest)
	l.stop = time.Microsecond + time.Duration(dice.Int64N(int64(10*time.Millisecond)))
	// In a tight world the callback uses what is left of the budget.
	if p.load >= 0.9 {
		l.stop = time.Duration((p.load*float64(l.duration) - float64(l.renewDeadline)*p.fastest/rate) / p.fastest)
	}
	l.stop = max(l.stop, time.Microsecond)
	l.stopTimeout = l.duration/2 + time.Duration(dice.Int64N(int64(l.duration)))
	// Only a callback that is stuck is to take longer.
	l.stopTimeout = max(l.stopTimeout, time.Duration(float64(l.stop)*rate)+time.Second)
	return l
}

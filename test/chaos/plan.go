//go:build linux

package main

import (
	"math/rand/v2"
	"time"
)

// kind names a fault.
type kind string

const (
	sigkill   kind = "SIGKILL"         // and a new process with the same ID
	sigstop   kind = "SIGSTOP"         // past the lease, then SIGCONT
	sigterm   kind = "SIGTERM"         // and a new process with the same ID
	resign    kind = "resignation"     // by the leader
	transfer  kind = "transfer"        // by the leader
	cut       kind = "connections cut" // and new ones, too
	refuse    kind = "port closed"     // connections cut, new ones refused
	blackHole kind = "black hole"      // nothing arrives, either way
	half      kind = "one-way black hole"
	latency   kind = "latency"          // 50-500 ms, with jitter
	lateness  kind = "late delivery"    // what is sent arrives when nobody waits for it any more
	trickle   kind = "narrow band"      // a kilobyte a second
	restart   kind = "database stopped" // gently, and started again
	crash     kind = "database SIGKILL" // killed, and started again
	fullFile  kind = "file full"        // max_page_count
	fullDisk  kind = "disk full"        // of the file system
	locked    kind = "database locked"  // by another program
)

// nature says where a kind of fault can be, and for how long it lasts.
type nature struct {
	kind     kind
	on       func(v *venue) bool
	shortest time.Duration
	longest  time.Duration
	// outage: nobody can be elected meanwhile, whoever it is.
	outage bool
}

func everywhere(*venue) bool  { return true }
func onServers(v *venue) bool { return v.server != nil }
func onFiles(v *venue) bool   { return v.file != nil }
func onVolumes(v *venue) bool { return v.file != nil && v.file.volume != nil }

var natures = []nature{
	{sigkill, everywhere, 0, 3 * time.Second, false},
	{sigstop, everywhere, leaseDuration + 200*time.Millisecond, 2 * leaseDuration, false},
	{sigterm, everywhere, 0, 2 * time.Second, false},
	{resign, everywhere, 0, 0, false},
	{transfer, everywhere, 0, 0, false},
	{cut, onServers, 200 * time.Millisecond, 3 * time.Second, false},
	{refuse, onServers, 200 * time.Millisecond, 3 * time.Second, false},
	{blackHole, onServers, time.Second, 5 * time.Second, false},
	{half, onServers, time.Second, 5 * time.Second, false},
	{latency, onServers, 2 * time.Second, 5 * time.Second, false},
	{lateness, onServers, 2 * time.Second, 4 * time.Second, false},
	{trickle, onServers, 2 * time.Second, 4 * time.Second, false},
	{restart, onServers, 0, 3 * time.Second, true},
	{crash, onServers, 0, 3 * time.Second, true},
	{fullFile, onFiles, time.Second, 4 * time.Second, true},
	{fullDisk, onVolumes, time.Second, 4 * time.Second, true},
	{locked, onFiles, 500 * time.Millisecond, 4 * time.Second, true},
}

func natureOf(k kind) nature {
	for _, n := range natures {
		if n.kind == k {
			return n
		}
	}
	return nature{kind: k}
}

// fault is one that was drawn. Whom it hits is decided when it strikes.
type fault struct {
	nature
	hold     time.Duration
	atLeader bool    // else at somebody else
	other    int     // who that is
	strength float64 // in [0, 1): of what comes in degrees
	odd      bool    // of what comes in two forms
}

// plan draws faults: every kind that there is before any comes again, so that a
// short run has as many as it can. It follows from its seed.
type plan struct {
	dice  *rand.Rand
	kinds []nature
	deck  []nature
}

func newPlan(seed uint64, v *venue) *plan {
	p := &plan{dice: rand.New(rand.NewPCG(seed, 0))}
	for _, n := range natures {
		if n.on(v) {
			p.kinds = append(p.kinds, n)
		}
	}
	return p
}

// round returns what strikes next: one fault, or now and then two at once, of which
// one at most is an outage.
func (p *plan) round() []fault {
	faults := []fault{p.draw()}
	if p.dice.IntN(4) > 0 {
		return faults
	}
	second := p.draw()
	if second.outage && faults[0].outage {
		return faults // the second one is for another time
	}
	second.atLeader = !faults[0].atLeader
	return append(faults, second)
}

func (p *plan) draw() fault {
	if len(p.deck) == 0 {
		p.deck = append(p.deck, p.kinds...)
		p.dice.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
	}
	f := fault{nature: p.deck[0], strength: p.dice.Float64(), odd: p.dice.IntN(2) == 0}
	p.deck = p.deck[1:]
	f.hold = f.shortest + time.Duration(p.dice.Float64()*float64(f.longest-f.shortest))
	f.atLeader = p.dice.IntN(10) < 7 || f.kind == resign || f.kind == transfer
	f.other = p.dice.IntN(1000)
	return f
}

package sim

import (
	"context"
	"slices"
	"time"

	"github.com/sqlelect/election"
)

// older is a member of the four-column version. Of a record it knows the fields leader_id and
// members, of each member id, name, address, lease_duration and renew_time. It drops all others
// when it writes. It counts no renewals, numbers no terms, and judges the others by whether their
// renew_time changes.
//
// It has no callback and makes no guarded entries. The other members have to live with what it does
// to the record.
type older struct {
	*process
	seen map[string]sight
}

type sight struct {
	renewTime time.Time
	since     time.Duration
}

// startOlder starts the member "old". It stays until the world comes to rest.
func (w *world) startOlder() *older {
	dice := w.newDice()
	m := w.newMachine(w.newDice())
	p := &process{
		world: w, id: "old", seat: newSeat(m, w.newDice(), w.newDice()), dice: dice, lease: w.plan.drawLease(dice, m.rate),
		ended: make(chan struct{}), acquired: map[uint64]uint64{}, told: map[uint64]bool{}, reigns: map[named]time.Time{},
	}
	p.link = &link{wire: wire{fates: fates{dice: w.newDice(), faults: w.plan.faults}}, process: p, backend: w.backend()}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	o := &older{process: p, seen: map[string]sight{}}
	w.running.Go(func() {
		defer close(p.ended)
		o.run(ctx)
	})
	return o
}

func (o *older) run(ctx context.Context) {
	for ctx.Err() == nil {
		o.round(ctx)
		o.pass(ctx, o.machine().real(o.lease.renewInterval))
	}
}

// round reads the record, and writes it with itself renewed; as leader, if nobody else is. It
// evicts whoever it takes for expired, the leader included.
func (o *older) round(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, o.lease.renewInterval)
	defer cancel()
	record, err := o.link.Get(ctx)
	if err != nil {
		return
	}
	now := o.seat.Now()
	next := &election.Record{LeaderID: record.LeaderID, Version: record.Version}
	for _, m := range record.Members {
		if m.ID == o.id || !o.expired(m, now.Mono) {
			next.Members = append(next.Members, &election.Member{
				ID: m.ID, Name: m.Name, Address: m.Address, LeaseDuration: m.LeaseDuration, RenewTime: m.RenewTime,
			})
		} else if m.ID == next.LeaderID {
			next.LeaderID = ""
		}
	}
	if next.LeaderID == "" {
		next.LeaderID = o.id
	}
	next.Members = slices.DeleteFunc(next.Members, func(m *election.Member) bool { return m.ID == o.id })
	next.Members = append(next.Members, &election.Member{ID: o.id, LeaseDuration: o.lease.duration, RenewTime: now.Time()})
	// It does not ask what became of the write: it reads again in the next round.
	_ = o.link.Update(ctx, next, next.LeaderID != record.LeaderID)
}

// expired reports whether m's renew_time has stood still for m's lease, by this machine's monotonic
// clock.
func (o *older) expired(m *election.Member, now time.Duration) bool {
	if s, known := o.seen[m.ID]; !known || !s.renewTime.Equal(m.RenewTime) {
		o.seen[m.ID] = sight{m.RenewTime, now}
	}
	return now >= o.seen[m.ID].since+m.LeaseDuration
}

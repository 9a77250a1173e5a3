package election

import (
	"github.com/sqlelect/election/internal/clock"
)

// finishRound ends the round. If there is time before the next one, it starts an optional call: the
// removal of expired member rows that the last look had no time for, or a look at all member rows.
func (c *campaign) finishRound(now clock.Instant) {
	c.endRoundAsDue(now)
	if c.schedule.next <= now.Mono || !c.self.keepsMemberRows || c.shutdown.begun || c.caller.busy() || c.removalPending && c.removeExpiredRows(now) {
		return
	}
	if c.self.memberRowsDue(now.Mono, c.cfg.RenewInterval) {
		c.caller.batchWait = c.cfg.RenewInterval / 20 // nothing hangs on it
		c.call = c.caller.getMemberRows(c.clock.Read())
	}
}

// handleMemberRows takes in all member rows. The leader removes the expired ones. If its renewal
// has waited for the look, the renewal comes first.
func (c *campaign) handleMemberRows(all reply, now clock.Instant) {
	c.self.setMemberRows(all.members, all.roster, now.Mono)
	if c.removalPending = c.scheduleAfterOptional(now); !c.removalPending && !c.caller.busy() {
		c.removeExpiredRows(now)
	}
}

// removeExpiredRows begins to remove expired member rows, and reports whether there are any. Only
// the leader does. It removes as many as a renewal may wait for.
func (c *campaign) removeExpiredRows(now clock.Instant) bool {
	c.removalPending = false
	silent := c.self.expiredMemberRows(now.Mono)
	if len(silent) == 0 || c.reign == nil {
		return false
	}
	some := 32
	if took := c.caller.getTime(); took > 0 {
		some = max(1, min(some, int(c.cfg.RenewInterval/(2*took))))
	}
	c.call = c.caller.removeMemberRows(c.clock.Read(), silent[:min(len(silent), some)])
	return true
}

// scheduleAfterOptional is scheduleNext after an optional call. It reports whether the renewal has
// waited for that call (see roundDueAt) and comes now.
func (c *campaign) scheduleAfterOptional(now clock.Instant) (overdue bool) {
	overdue = c.schedule.renewalOnly && now.Mono >= c.schedule.next
	c.endRoundAsDue(now)
	if overdue {
		c.schedule.next, c.schedule.renewalOnly = now.Mono, true
	}
	return overdue
}

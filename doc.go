// Package election elects one leader among the replicas of a service. The election lives in a table
// of the SQL database that the service already uses. So the database itself can refuse the work of
// a process that leads no more: a guarded transaction commits only if its member is the recorded
// leader.
//
// # Guarantee
//
// Every leadership is a reign with a number, its term. Terms only grow. In every term there is at
// most one leader, and at most one LeaderCallback is started.
//
// A guarded transaction (TxnWithLeaderLock) commits only if the database records its member as the
// leader at the moment of the commit. If its ctx descends from the ctx of a callback of the same
// election, the recorded term must be the callback's. No clock, pause or partition can break this,
// and no failover that keeps acknowledged commits.
//
// Under the assumption below, no member's LeaderCallback starts before the previous leader's
// LeaderCallback has returned.
//
// # Assumption
//
//	RenewDeadline · ρ + (time a callback needs to return after its ctx ended) ≤ LeaseDuration
//
// Here ρ is how many times faster an observer's clock runs than the leader's. The defaults leave
// room for ρ = 1.25 if the callback returns at once, and for ρ = 1.0 if it needs 2 s. It is further
// assumed that processes are not stopped, that the storage loses no acknowledged write, and that
// every member runs this protocol. Wall clocks may be arbitrarily wrong.
//
// # Not promised
//
// A process that was stopped (SIGSTOP, a paused virtual machine) may execute instructions after its
// lease has passed. An unguarded statement, a request or a child process that a callback started
// may have an effect after the callback returned. What must not happen twice belongs into a guarded
// transaction.
//
// # The trust window
//
// A leader may believe in its leadership until trustedUntil. An observer must leave the leader
// alone until takeOverAfter. The two moments are measured on different machines:
//
//	trustedUntil  = start of the last acknowledged renewal + RenewDeadline
//	takeOverAfter = last observed change of the leader's entry + its LeaseDuration
//
// The leader reads its clock before it sends the renewal. The observer stamps the change when it
// has the reply in hand. So the leader's window begins first, and it is shorter: it ends first. The
// leader measures by the faster one of its clocks, the observer by its monotonic clock alone. At
// trustedUntil the callback's ctx ends, whether or not any storage call has returned.
//
// # States
//
//	           acquisition acknowledged, its trust still holding
//	follower ─────────────────────────────────────────────────► leader
//	 ▲  ▲  ▲                                                      │
//	 │  │  │ callback returned by itself: release, then pause     │ trust ran out, deposed,
//	 │  │  └──────────────────────────────────────────────────────┤ resigned, transferred,
//	 │  │                                                         │ or RunElection's ctx ended:
//	 │  │ callback returned: release                              ▼ the callback's ctx ends
//	 │  └───────────────────────────────────────────────────── draining
//	 │                                                            │ StopTimeout passed
//	 │ callback returned after all: release                       ▼
//	 └──────────────────────────────────────────────────────── overrun (the lease lapses)
//
// A draining member goes on renewing its lease as long as the record still names it, so no other
// member takes over before its callback has returned. An overrun is the exception: the member stops
// renewing, its lease lapses, and only the guard still protects.
//
// # Storage
//
// A Storage keeps the Record of one election. Its two methods read the Record, and replace it by
// compare-and-swap. SQLStorage and ORMStorage keep Records in a table; one table holds many
// elections, each with a name. Package storagetest checks other implementations.
package election

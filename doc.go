// Package election elects one leader among the replicas of a service, over a
// table of the SQL database the service already uses, and lets only that leader's
// transactions commit.
//
// # Guarantee
//
// Every leadership is a reign with a number, its term. Terms only grow. In every
// term there is at most one leader, and at most one LeaderCallback is started.
//
// A transaction under TxnWithLeaderLock commits only if, at the moment of its
// commit, the database itself records that member as the leader; in the term that
// the ctx carries, when it descends from a callback's. No clock, pause, partition
// or failover that keeps acknowledged commits can break this.
//
// No member's LeaderCallback starts before the previous leader's has returned,
// under the assumption below.
//
// # Assumption
//
//	RenewDeadline · ρ + (time a callback needs to return after its ctx ended) ≤ LeaseDuration
//
// where ρ is how much faster an observer's clock runs than the leader's: at the
// defaults 1.25 for a callback that returns at once, 1.0 for one that needs 2 s.
// Processes are not stopped, the storage loses no acknowledged write, and every
// member runs this protocol. Wall clocks may be arbitrarily wrong.
//
// # Not promised
//
// That a process which was stopped (SIGSTOP, a paused virtual machine) executes
// no instruction after its lease has passed. That an unguarded statement, a
// request or a child process which a callback started has no effect after the
// callback returned. What must not happen twice belongs into a guarded
// transaction.
//
// # The trust window
//
// A leader may believe in its leadership, and an observer must believe in it,
// for two windows that are measured on different machines and so are made to
// nest:
//
//	trustedUntil  = start of the last acknowledged renewal + RenewDeadline
//	takeOverAfter = last observed change of the leader's entry + its LeaseDuration
//
// The start is read before the renewal is sent, the change is stamped with the
// reply in hand: the leader's window begins first, and is shorter. The leader
// measures by whichever of its clocks ran faster, the observer by its monotonic
// clock alone. At trustedUntil the callback's ctx ends, whether or not any call
// has returned.
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
// While it drains, a member goes on renewing its lease, as long as the record
// still names it; nobody takes over before its callback has returned. An overrun
// callback is the exception: its lease lapses, and only the guard still protects.
//
// # Storage
//
// An election is one Record behind the two methods of Storage, changed by
// compare-and-swap. SQLStorage and ORMStorage keep it in a table, many elections
// by name in the same one. Package storagetest checks other implementations.
package election

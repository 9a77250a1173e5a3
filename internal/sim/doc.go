// Package sim runs elections in seeded worlds. A world has a few members with clocks that disagree,
// a database behind a network that delays and loses calls, and a script of crashes, stops,
// hand-overs and lost history. A judge watches every commit and every callback, and says which
// promise of docs/guarantees.md was broken first.
//
// A world runs in a testing/synctest bubble: an hour passes in a fraction of a second. Everything
// that happens follows from the seed, so a world that broke a promise can be run again. The order
// in which goroutines run at one instant does not follow from it. So nothing may depend on that
// order: each source of chance has one user, and all moments are drawn to the nanosecond, so that
// few things happen at one instant.
//
//   - world.go runs a world, from the start of its members to their end;
//   - plan.go decides what a seed's world is like;
//   - script.go is what the world does to its members, and the rest at the end;
//   - database.go is the election's table, with its history; locks.go has its locks;
//   - link.go is what lies between a member and the database; faulty.go puts the same before a
//     Storage of somebody else's;
//   - machine.go is a member's clocks, which drift, step, sleep and stop; seat.go is what a process
//     sees of them;
//   - process.go is one process of a member: its elector and its callback;
//   - clone.go copies a process while it runs;
//   - older.go is a member of the four-column version;
//   - judge.go holds the invariants, trace.go what happened.
package sim

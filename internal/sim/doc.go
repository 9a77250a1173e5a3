// Package sim runs elections in seeded worlds: a few members with clocks that
// disagree, a database behind a network that loses, delays and repeats what
// passes through it, and a script of crashes, pauses, hand-overs and lost history.
// A judge watches every commit and every callback, and says which promise of
// docs/guarantees.md was broken first.
//
// A world runs in a testing/synctest bubble: an hour passes in a fraction of a
// second. Everything that happens follows from the seed. The scheduler does not,
// so every goroutine that shares an instant with another touches nothing of its:
// each source of chance has one user, and all moments are drawn to the nanosecond.
//
//   - plan.go decides what a seed's world is like;
//   - database.go is the election's table, with its history and its locks;
//   - machine.go is a member's clocks, which drift, step, sleep and stop;
//   - link.go is what lies between a member and the database;
//   - process.go is one process of a member: its elector and its callback;
//   - older.go is a member that knows only the fields of the four-column version;
//   - script.go is what the world does to them, and the quiet at the end;
//   - judge.go holds the invariants, trace.go what happened.
package sim

// Package doctor examines whether elections can be held on a database: whether
//
//   - of two writers exactly one wins
//   - the guard holds
//   - one connection reads what another one has written
//   - the server's settings keep what was acknowledged
//
// It tries the library itself, through two connections, in a table of its own. The table is called
// election_doctor_ and a random number, and is dropped in the end. If the user may not create a
// table, the doctor uses elections of that name in the existing table, and removes their rows. If
// the user may not remove rows either, it reads settings and skips the rest.
//
// A [Failure] means that elections cannot work there, or that a promise is broken while everything
// runs, or by the crash of one machine. A [Warning] means that more has to happen before a promise
// is broken (the promotion of a standby, say), or that members are slower than they could be. What
// is fine now may be changed later. So call [Examine] where a change would be noticed: when a
// service starts, or in its CI.
//
// Not examined: what happens in a failover; whether a disk writes what it says it has written;
// SQLite across processes.
package doctor

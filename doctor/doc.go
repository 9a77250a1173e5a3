// Package doctor finds out whether a database keeps what elections on it need:
// whether of two writers one wins, whether the guard holds, whether what one
// connection writes the other reads, and whether the server's settings keep what
// was acknowledged.
//
// It tries the library itself, through two connections, in a table of its own that
// it drops in the end: election_doctor_ and a random number. Where it may not
// create one, it uses elections of that name in the table that is there, and removes
// their rows; where it may not do that either, it reads settings and skips the rest.
//
// A [Failure] means that elections cannot work there, or that a promise is broken
// while everything runs, or by the crash of one machine. A [Warning] means that it
// takes more to break one (the promotion of a standby, say), or that members are
// slower than they could be. What is fine now may be changed later: call [Examine]
// where that would be noticed, when a service starts or in its CI.
//
// Not examined: what happens in a failover; that a disk writes what it says it has
// written; SQLite across processes.
package doctor

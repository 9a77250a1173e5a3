// Package arena is where processes play an election over a database, and where a
// verdict says afterwards which promises held. The command "election demo" and the
// chaos runs (test/chaos) are two plans of what happens in it; the library's users
// import neither.
//
// Three kinds of players take part, and none of them trusts another:
//
//   - a member (member.go) is a process of its own. It runs an elector; in each reign
//     its writers append entries to a ledger (ledger.go) in guarded transactions
//     (guard.go), also when the reign is over, and it writes down all that happens to
//     it in a log (line.go, journal.go);
//   - the stage is the program that starts the members (actor.go). It gives them cues
//     (cue.go) and kills, freezes or otherwise disturbs them, and writes down when it
//     did so. What it does is the plan's: a script, or faults drawn from a seed;
//   - the verdict (verdict.go) is a pure function of the history (history.go): the
//     ledger and the logs, as read back when every process has ended.
//
// The verdict of every run checks four promises:
//
//   - no two leader callbacks ran at once, and all returned. One whose process was
//     stopped is excused while it was stopped, and for the time between the end of a
//     leader's trust and that of its lease after that;
//   - each callback started in a higher term than the one before;
//   - each entry was written by the process whose callback ran in its term, and stands
//     behind no entry of a later term: entries take their number from one row, which
//     they keep locked until they commit, so the order of the numbers is the order of
//     the commits;
//   - what was acknowledged is in the ledger, once, under its number; what was refused
//     or failed is not; everything in it was begun by whom it names; every attempt ended.
//     An attempt whose outcome is unknown, or whose process was killed before it could
//     tell, may be there or not.
//
// A plan adds what only its own stage can know: that somebody else led after a
// resignation, or that the election went on after a fault.
//
// A database's DSN may hold a password. It comes to members over their standard input,
// and no log, error or output shows it.
package arena

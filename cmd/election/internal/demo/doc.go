// Package demo is the command "election demo": three processes elect a leader
// over one SQLite file, or over tables in a database that is there, while the demo
// resigns, transfers, kills and freezes leaders, and in the end a verdict says
// which promises held.
//
// Three kinds of actors take part, and none of them trusts another:
//
//   - a member (member.go) is a process of its own. It runs an elector; while it
//     leads it appends guarded entries to a ledger table, and it writes down all
//     that happens to it in a log file of its own;
//   - the stage (stage.go, script.go) starts the members, gives them their cues
//     over pipes, kills and freezes them, logs when it did so, and draws what it
//     hears from them (view.go, screen.go). Nothing it has heard counts as evidence;
//   - the verdict (verdict.go) is a pure function of the ledger and the log files
//     as read back when every process has ended.
//
// A database's DSN may hold a password. It comes to the members over their
// standard input, and no log, error or output shows it (venue.go).
//
// Moments are wall clock readings, because they are compared between processes
// of one machine. A step of the wall clock during the run can therefore spoil the
// verdict; it cannot spoil the election, which compares no wall clocks.
package demo

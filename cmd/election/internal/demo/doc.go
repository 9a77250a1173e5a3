// Package demo is the command "election demo". Three processes elect a leader over one SQLite file,
// or over tables in a database that is there. Meanwhile the demo has leaders resign and hand over,
// and kills and freezes them. In the end a verdict says which promises held.
//
// It is a script in an arena: package internal/arena has the members' processes, the ledger, the
// logs and the verdict that holds in every arena. Here are
//
//   - what its members do (member.go): one writer in each reign, which goes on in its old term
//     after a freeze; and a gate (gate.go), at which a leader is frozen;
//   - the stage (stage.go, script.go), which gives the members their cues, kills and freezes them,
//     and draws what it hears from them (status.go, view.go, screen.go). Nothing that it has heard
//     counts as evidence;
//   - what the verdict (verdict.go, report.go) adds: that somebody else led after each step, and
//     what a woken leader was refused.
package demo

//go:build linux

// Chaos runs elections of real processes over real databases while it kills,
// freezes, cuts and restarts whatever takes part, and says in the end which
// promises held.
//
//	go run ./chaos -duration 10m -engines mysql,postgres,sqlite
//
// It is a plan of faults in an arena: package internal/arena has the members'
// processes, the ledger, the logs and the verdict that holds in every arena. Here are
//
//   - what its members do (member.go): several writers in each reign, which on purpose
//     go on for longer than a lease after it;
//   - the stage (stage.go, fault.go), which starts the members, a proxy before each of
//     them (network.go) and the database (venue.go, volume.go), and disturbs them by a
//     plan that follows from a seed (plan.go);
//   - what the verdict (verdict.go) adds from the history (history.go) of such a run.
//
// What makes the verdict exact is that changes of leader are numbered too: a trigger on
// the leader row writes them down, within the transaction of the change (change.go).
// Entries and changes take their number from one row, which they keep locked until they
// commit. So the order of the numbers is the order of the commits, and every guarded
// entry must follow the change that made its writer leader in its term, with no other
// change in between.
package main

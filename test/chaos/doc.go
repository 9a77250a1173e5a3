//go:build linux

// Chaos runs elections of real processes over real databases while it kills,
// stops, cuts and restarts whatever takes part, and says in the end which
// promises held.
//
//	go run ./chaos -duration 10m -engines mysql,postgres,sqlite
//
// Like the demo it has three kinds of actors, none of which trusts another:
//
//   - a member (member.go, attempt.go) is a process of its own: this program,
//     executed again. It runs an elector, appends to a ledger in guarded
//     transactions for as long as it leads, and on purpose for a while after, and
//     writes down all that happens to it on its standard output, a file;
//   - the stage (stage.go, fault.go) starts the members, a proxy before each of them
//     (network.go) and the database (venue.go), and disturbs them by a plan that
//     follows from a seed (plan.go). It writes down when it did what;
//   - the verdict (verdict.go, reigns.go, attempts.go) is a pure function of the
//     ledger, the members' logs and the stage's, as read back when all have ended.
//
// What makes the verdict exact is that changes of leader are in the ledger too: a
// trigger on the leader row writes them, within the transaction of the change
// (ledger.go). All take their number from one row that they keep locked until they
// commit, so the order of the numbers is the order of the commits, and every
// guarded entry must follow the change that made its writer leader in its term,
// with no other change in between.
//
// Moments are of the boot clock, which all processes of a machine share.
package main

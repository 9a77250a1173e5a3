package election

import "time"

// State is where a member stands. See the diagram in the package comment.
type State string

// The states of a member.
const (
	StateIdle     State = "idle"     // RunElection was not called yet
	StateFollower State = "follower" // takes part; another member leads, or none
	StateLeader   State = "leader"   // leads within its trust window
	StateDraining State = "draining" // leads no more; the callback has not returned yet
	StateOverrun  State = "overrun"  // the callback did not return within StopTimeout
	StateStopped  State = "stopped"  // RunElection has returned
)

// Status is a snapshot for people and health checks; nothing in it is a
// promise about the next instant.
type Status struct {
	ID    string
	State State
	// Leadership is the last reign observed. Its Leader is nil if the lease is not valid here any
	// more.
	Leadership Leadership
	// TrustLeft is how long this member may still believe that it leads, if no
	// further renewal is acknowledged; 0 when it does not lead.
	TrustLeft time.Duration
	// Members are the entries that GetMembers returns.
	Members []*Member
	// RenewedAt is the wall clock at the start of the last acknowledged renewal.
	RenewedAt time.Time
	// Err is the last storage error; nil if a call has succeeded since.
	Err error
	// Watching is true while the storage tells this member of changes of leader (wake-ups). While
	// it is false, the member finds changes by polling. WatchErr then says why, if the storage
	// knows.
	Watching bool
	WatchErr error
}

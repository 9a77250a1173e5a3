package election

import "time"

// State is where a member stands. See the diagram in the package comment.
type State string

// The states of a member.
const (
	StateIdle     State = "idle"     // RunElection was not called yet
	StateFollower State = "follower" // takes part, somebody else leads or nobody does
	StateLeader   State = "leader"   // leads within its trust window
	StateDraining State = "draining" // leads no more, the callback has yet to return
	StateOverrun  State = "overrun"  // the callback did not return within StopTimeout
	StateStopped  State = "stopped"  // RunElection has returned
)

// Status is a snapshot for people and health checks; nothing in it is a
// promise about the next instant.
type Status struct {
	ID    string
	State State
	// Leadership is the last one observed whose lease is still valid.
	Leadership Leadership
	// TrustLeft is how long this member may still believe that it leads, if no
	// further renewal is acknowledged; 0 when it does not lead.
	TrustLeft time.Duration
	// Members are those whose lease is valid here, sorted by ID.
	Members []*Member
	// RenewedAt is the wall clock at the start of the last acknowledged renewal.
	RenewedAt time.Time
	// Err is the last storage error, nil once a call has succeeded since.
	Err error
	// Watching says that the storage tells of changes of leader; else they are found
	// by polling, and WatchErr says why, if the storage knows.
	Watching bool
	WatchErr error
}

// Package storagetest tests what is built around an election: an implementation
// of [election.Storage] against every sentence of its contract (Run), a Storage or
// a LeaderCallback in simulated worlds full of faults (Simulate), or by itself on a
// storage that fails in the ways that a test asks for (WithFaults). Memory is the
// in-memory reference implementation, for tests that need no database.
package storagetest

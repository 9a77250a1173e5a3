// Package storagetest tests what is built around an election.
//
//   - [Run] checks an implementation of [election.Storage] against its contract, sentence by
//     sentence.
//   - [Simulate] runs a Storage or a LeaderCallback in simulated worlds full of faults.
//   - [WithFaults] makes a Storage fail in the ways that a test asks for.
//   - [Memory] is the in-memory reference implementation, for tests that need no database.
package storagetest

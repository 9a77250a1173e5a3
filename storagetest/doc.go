// Package storagetest checks implementations of [election.Storage] against
// every sentence of its contract (Run), and holds an in-memory reference
// implementation (Memory) for simulations and tests that need no database.
package storagetest

package election_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
)

// crowd is a large election in one process, for benchmarks.
type crowd struct {
	electors []election.Elector
	leave    func() // waits for all
}

// gather starts n members at the same moment, and returns when their leader knows
// them all.
func gather(b *testing.B, n int, change func(*election.Config)) *crowd {
	b.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	c := &crowd{electors: make([]election.Elector, n)}
	var running sync.WaitGroup
	c.leave = sync.OnceFunc(func() { cancel(); running.Wait() })
	b.Cleanup(c.leave)
	for i := range c.electors {
		cfg := election.Config{ID: fmt.Sprintf("member-%04d", i), Address: "10.0.0.1:8080", LeaderCallback: stay}
		change(&cfg)
		e, err := election.NewElector(cfg)
		require.NoError(b, err)
		c.electors[i] = e
	}
	start := time.Now()
	for _, e := range c.electors {
		running.Go(func() { _ = e.RunElection(ctx) })
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for c.known() < n {
		require.Less(b, time.Since(start), 2*time.Minute, "they do not all become members")
		<-tick.C
	}
	return c
}

// leader returns the member that leads, or nil.
func (c *crowd) leader() election.Elector {
	for _, e := range c.electors {
		if e.IsLeader() {
			return e
		}
	}
	return nil
}

// known is how many members the leader knows.
func (c *crowd) known() int {
	if e := c.leader(); e != nil {
		return len(e.GetMembers())
	}
	return 0
}

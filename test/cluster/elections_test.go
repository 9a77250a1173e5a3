package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
)

// party is an election with one member on each node. Whoever leads fills the ledger.
type party struct {
	*world
	members []*member

	mu      sync.Mutex
	running map[string]bool // callbacks
	terms   []uint64        // of the callbacks, in order
}

type member struct {
	election.Elector
	id   string
	stop context.CancelFunc
	done chan struct{}
}

const (
	partyLease  = 6 * time.Second
	partyRenew  = 500 * time.Millisecond
	partyTrust  = 4 * time.Second  // their machine is busy: 2 s for a callback to return
	partyChange = 30 * time.Second // for a cluster that has to find itself first
)

func newParty(t *testing.T) *party {
	p := &party{world: newWorld(t), running: map[string]bool{}}
	for i := range p.storages {
		p.join(fmt.Sprint("m", i), p.storages[i])
	}
	t.Cleanup(func() {
		for _, m := range p.members {
			m.stop()
		}
		for _, m := range p.members {
			<-m.done
		}
	})
	p.awaitLeader(func(*member) bool { return true })
	return p
}

func (p *party) join(id string, storage *election.SQLStorage) {
	m := &member{id: id, done: make(chan struct{})}
	var err error
	m.Elector, err = election.NewElector(election.Config{
		ID: id, Storage: storage, LeaseDuration: partyLease, RenewInterval: partyRenew, RenewDeadline: partyTrust,
		LeaderCallback: func(ctx context.Context) error { return p.lead(ctx, id, storage) },
	})
	require.NoError(p.t, err)
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		defer close(m.done)
		_ = m.RunElection(ctx)
	}()
	p.members = append(p.members, m)
}

// lead is what a leader does. G2: no other does it at the same time.
func (p *party) lead(ctx context.Context, id string, storage *election.SQLStorage) error {
	l, _ := election.LeadershipFromContext(ctx)
	p.mu.Lock()
	assert.Empty(p.t, p.running, "%s starts in term %d", id, l.Term)
	if n := len(p.terms); n > 0 {
		assert.Greater(p.t, l.Term, p.terms[n-1])
	}
	p.terms = append(p.terms, l.Term)
	p.running[id] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.running, id)
	}()
	for ctx.Err() == nil {
		_ = storage.TxnWithLeaderLock(ctx, id, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO ledger VALUES (?, ?, ?)", rand.Int64(), id, l.Term)
			return err
		})
		pause, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		<-pause.Done()
		cancel()
	}
	return nil
}

// leader is who leads, nil if nobody does.
func (p *party) leader() *member {
	for _, m := range p.members {
		if m.IsLeader() {
			return m
		}
	}
	return nil
}

// awaitLeader waits for a leader that will do, and returns it.
func (p *party) awaitLeader(fits func(*member) bool) (m *member) {
	p.t.Helper()
	eventually(p.t, partyChange, "a leader", func() bool {
		m = p.leader()
		return m != nil && fits(m)
	})
	return m
}

// leads makes a member the leader.
func (p *party) makeLead(i int) *member {
	p.t.Helper()
	target := p.members[i]
	eventually(p.t, partyChange, "a transfer", func() bool {
		m := p.leader()
		if m == nil || m == target {
			return m == target
		}
		ctx, cancel := context.WithTimeout(p.t.Context(), partyRenew*4)
		defer cancel()
		_ = m.TransferLeader(ctx, target.id)
		return target.IsLeader()
	})
	return target
}

// judge lets the log of the last node decide.
func (p *party) judge() {
	p.t.Helper()
	seen := p.testify(2)
	p.t.Logf("%d callbacks, last term %d; in the log: %d changes, %d entries", len(p.terms), p.terms[len(p.terms)-1], len(seen.terms), len(seen.entries))
	assert.Empty(p.t, seen.violations)
	assert.NotEmpty(p.t, seen.entries)
}

// Members on three nodes elect, hand over, resign, leave and come back.
func TestElectionAcrossNodes(t *testing.T) {
	p := newParty(t)
	eventually(t, partyChange, "all members to know each other and the leader", func() bool {
		for _, m := range p.members {
			if leader, ok := m.GetLeader(); !ok || leader.ID != p.leader().id || len(m.GetMembers()) != len(p.members) {
				return false
			}
		}
		return true
	})
	for i := range p.members {
		p.makeLead(i)
	}
	start, resigned := time.Now(), p.leader()
	require.NoError(t, resigned.ResignLeader(t.Context(), time.Minute))
	p.awaitLeader(func(m *member) bool { return m != resigned })
	t.Logf("after a resignation, another led within %v", time.Since(start).Round(time.Millisecond))
	start, gone := time.Now(), p.leader()
	gone.stop()
	<-gone.done
	p.awaitLeader(func(m *member) bool { return m != gone })
	t.Logf("after a shutdown, another led within %v", time.Since(start).Round(time.Millisecond))
	for _, m := range p.members { // no lock reaches all nodes: they look at the row
		if m != gone {
			assert.True(t, m.Status().Watching)
			assert.NoError(t, m.Status().WatchErr)
		}
	}
	p.judge()
}

// A node that dies takes its member's leadership along, and no more.
func TestNodeKilled(t *testing.T) {
	p := newParty(t)
	victim := p.makeLead(0)
	start := time.Now()
	require.NoError(t, p.cluster.Nodes[0].Kill())
	p.awaitLeader(func(m *member) bool { return m != victim })
	t.Logf("after its node was killed, another led within %v", time.Since(start).Round(time.Millisecond))
	require.Error(t, victim.Status().Err)
	t.Logf("the member of that node says: %v", victim.Status().Err)
	require.NoError(t, p.cluster.Nodes[0].Restart())
	eventually(t, partyChange, "its member to come back", func() bool { return victim.Status().Err == nil })
	p.makeLead(0)
	p.judge()
}

// Without a quorum nobody leads, and the error says why; with one it goes on.
func TestQuorumCut(t *testing.T) {
	p := newParty(t)
	survivor := p.makeLead(2)
	for _, node := range p.cluster.Nodes[:2] {
		require.NoError(t, node.Stop())
		t.Cleanup(func() { _ = node.Continue() })
	}
	eventually(t, partyChange, "the end of the leadership", func() bool { return p.leader() == nil })
	eventually(t, partyChange, "an error that says why", func() bool { return errorNumber(survivor.Status().Err) == 1047 })
	t.Logf("the member of the node that is left says: %v", survivor.Status().Err)
	_, err := election.NewSQLStorage(p.handles[2], "")
	require.ErrorContains(t, err, "not in the primary component")
	require.Error(t, p.guarded(t.Context(), 2, reign{survivor.id, p.terms[len(p.terms)-1]}, 1, func() {}))
	start := time.Now()
	for _, node := range p.cluster.Nodes[:2] {
		require.NoError(t, node.Continue())
	}
	p.awaitLeader(func(*member) bool { return true })
	t.Logf("when the others went on, one led within %v", time.Since(start).Round(time.Millisecond))
	for _, node := range p.cluster.Nodes {
		require.NoError(t, node.AwaitSynced(t.Context()))
	}
	p.judge()
}

// A node that hangs is left behind: what its leader had begun there is not committed
// when it goes on.
func TestNodeStopped(t *testing.T) {
	p := newParty(t)
	old := p.makeLead(1)
	was := reign{leader: old.id}
	was.term, _ = old.Term()
	inside, commit, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- p.guarded(t.Context(), 1, was, 1, func() { close(inside); <-commit })
	}()
	<-inside
	require.NoError(t, p.cluster.Nodes[1].Stop())
	t.Cleanup(func() { _ = p.cluster.Nodes[1].Continue() })
	start := time.Now()
	p.awaitLeader(func(m *member) bool { return m != old })
	t.Logf("after its node was stopped, another led within %v", time.Since(start).Round(time.Millisecond))
	close(commit)
	require.NoError(t, p.cluster.Nodes[1].Continue())
	err := <-ended
	require.Error(t, err)
	t.Logf("the guarded transaction that was open on it: %v", err)
	require.NoError(t, p.cluster.Nodes[1].AwaitSynced(t.Context()))
	require.NotContains(t, p.testify(2).entries, "1")
	p.judge()
}

// errorNumber is the server's number of an error, 0 if it is none of its.
func errorNumber(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

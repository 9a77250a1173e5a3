package main

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// A standby that stalls keeps every COMMIT waiting: the leader stops in time, nobody
// leads, Status says that the storage does not answer, and no guarded transaction is
// taken for committed. When it goes on, so does the election.
func TestPairStalledStandby(t *testing.T) {
	t.Parallel()
	w := newPairWorld(t)
	members := w.joinThree()
	w.more(20)
	require.NoError(t, w.pair.Standby.Stall(t.Context(), false))
	w.until("the leader to stop", func() bool { return len(leaders(members)) == 0 })
	before := w.entries()
	for _, m := range members {
		w.until("everybody to say why", func() bool { return m.Status().Err != nil })
		t.Log(m.Status().Err)
	}
	s := w.storage(w.open(w.pair.DSN())).WithGuardTimeout(pairTrust)
	r, err := s.Get(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, r.LeaderID)
	err = w.write(t.Context(), s, r.LeaderID, r.Term, "")
	require.ErrorIs(t, err, election.ErrOutcomeUnknown)
	require.Empty(t, leaders(members))
	require.Equal(t, before, w.entries())
	require.NoError(t, w.pair.Standby.Stall(t.Context(), true))
	w.more(20)
	for _, m := range members {
		m.stop()
	}
	w.requireSound()
	t.Logf("%d entries, %d of unknown outcome", w.entries(), w.unknown)
}

// proxied puts a network that can be disturbed between the standby and the primary.
func (w *pairWorld) proxied() *dbtest.Proxy {
	w.t.Helper()
	proxy := dbtest.NewProxy(w.t, "tcp", w.pair.Primary.Address())
	host, port, err := net.SplitHostPort(proxy.Address())
	require.NoError(w.t, err)
	require.NoError(w.t, w.pair.Standby.StreamFrom(w.t.Context(), host, port))
	return proxy
}

// An acquisition that waits for the standby is given up by its client, and then everybody
// can read it on the primary. It is not believed: it may be lost yet, and here it is.
func TestPairAcquisitionThatOnlyThePrimaryHas(t *testing.T) {
	t.Parallel()
	w := newPairWorld(t)
	proxy := w.proxied()
	primary := w.open(w.pair.Primary.DSN())
	proxy.Swallow()
	a := w.join("a", w.pair.DSN())
	var term int64
	w.until("acquisitions that can be read", func() bool {
		var leader string
		_ = primary.QueryRow("SELECT leader_id, version FROM election WHERE id = 2").Scan(&leader, &term)
		return leader == "a" && term >= 3
	})
	require.Empty(t, w.terms, "it began a reign that only the primary has")
	require.False(t, a.IsLeader())
	require.NoError(t, w.pair.Primary.Kill(t.Context()))
	proxy.Cut()
	require.NoError(t, w.pair.Promote(t.Context()))
	w.more(20)
	w.mu.Lock()
	// Above all that it has read: of the last attempt it may not have heard yet.
	assert.GreaterOrEqual(t, int64(w.terms[0]), term)
	w.mu.Unlock()
	a.stop()
	w.requireInTerm()
	assert.Zero(t, w.missing())
}

// Without a synchronous standby a failover loses what was acknowledged, a change of leader
// included: the members notice, wait, and go on in a term above those that are lost. Nor
// is the old primary silent when it comes back.
func TestPairAsynchronousStandby(t *testing.T) {
	t.Parallel()
	w := newPairWorld(t)
	require.NoError(t, w.pair.Synchronous(t.Context(), false))
	proxy := w.proxied()
	members := w.joinThree()
	w.more(20)
	proxy.Swallow()
	require.NoError(t, leaders(members)[0].ResignLeader(t.Context(), pairLease))
	w.more(20)
	old := w.pair.Primary
	require.NoError(t, old.Kill(t.Context()))
	proxy.Cut()
	require.NoError(t, w.pair.Promote(t.Context()))
	lost := w.missing()
	assert.Positive(t, lost)
	w.mu.Lock()
	before := w.terms[len(w.terms)-1]
	w.mu.Unlock()
	w.more(20)
	w.mu.Lock()
	assert.Positive(t, w.lost, "nobody noticed")
	assert.Greater(t, w.terms[len(w.terms)-1], before)
	w.mu.Unlock()
	for _, m := range members {
		m.stop()
	}
	w.requireInTerm()
	t.Logf("%d acknowledged entries of %d are missing", lost, w.entries())

	require.NoError(t, old.Return(t.Context()))
	s := w.storage(w.open(old.DSN()))
	_, err := changeOfLeader(t.Context(), s, "usurper")
	require.NoError(t, err, "so it has to be fenced: it would accept another leader")
}

package election_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
)

// older is the election as a member sees it that knows only the first fields:
// what it reads and writes back has lost all others.
type older struct{ election.Storage }

func (o older) Get(ctx context.Context) (*election.Record, error) {
	r, err := o.Storage.Get(ctx)
	if err != nil {
		return nil, err
	}
	var known struct {
		LeaderID string `json:"leader_id"`
		Members  []struct {
			ID            string        `json:"id"`
			Name          string        `json:"name"`
			Address       string        `json:"address"`
			LeaseDuration time.Duration `json:"lease_duration"`
			RenewTime     time.Time     `json:"renew_time"`
		} `json:"members"`
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &known); err != nil {
		return nil, err
	}
	seen := &election.Record{LeaderID: known.LeaderID, Version: r.Version}
	for _, m := range known.Members {
		seen.Members = append(seen.Members, &election.Member{ID: m.ID, Name: m.Name, Address: m.Address,
			LeaseDuration: m.LeaseDuration, RenewTime: m.RenewTime})
	}
	return seen, nil
}

// take does what an older member does in one poll: it renews its entry, and
// leads if nobody does or it already did.
func (o older) take(ctx context.Context, id string) error {
	r, err := o.Get(ctx)
	if err != nil {
		return err
	}
	entry, ok := r.FindMember(id)
	if !ok {
		entry = &election.Member{ID: id, LeaseDuration: election.DefaultLeaseDuration}
		r.Members = append(r.Members, entry)
	}
	entry.RenewTime = time.Now()
	acquired := r.LeaderID == ""
	if acquired {
		r.LeaderID = id
	}
	return o.Update(ctx, r, acquired)
}

// A member that knows only the first fields takes part: it drops everybody's
// nonce, counter and the term with every write, and nobody is deposed or taken
// for a duplicate; it can lead, and the guard counts its reigns too.
func TestTrap13OlderMemberTakesPart(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		storage := open()
		p := newParty(t)
		a := p.join("a", storage)
		waitFor(t, time.Minute, "a leads", a.IsLeader)
		p.join("b", open())
		old := older{open()}
		poll := func(times int) {
			for range times {
				waitFor(t, time.Second, "the older member writes", func() bool { return old.take(t.Context(), "old") == nil })
				<-time.After(1700 * time.Millisecond)
			}
		}
		poll(30)
		require.True(t, a.IsLeader())
		require.Len(t, p.log.all(), 1)
		require.Len(t, a.GetMembers(), 3)
		first, _ := a.Term()

		// The older member takes the leadership while nobody has it.
		ended := make(chan error, 1)
		go func() { ended <- a.ResignLeader(t.Context(), time.Minute) }()
		waitFor(t, time.Second, "the older member leads", func() bool {
			r, err := storage.Get(t.Context())
			return err == nil && r.LeaderID == "" && old.take(t.Context(), "old") == nil
		})
		require.NoError(t, <-ended)
		poll(5)
		r, err := storage.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "old", r.LeaderID)
		require.False(t, r.Unguarded)
		require.Greater(t, r.Term, first, "row 2's number stands for the term that its JSON lacks")
		older := r.Term

		// It falls silent: after its lease another member leads, in a higher term.
		waitFor(t, time.Minute, "another leads", func() bool { return len(p.leaders()) == 1 })
		require.Greater(t, p.log.last().term, older)
		p.log.requireSound(t)
	})
}

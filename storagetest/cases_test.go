package storagetest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sqlelect/election"
)

// failures runs the kit and returns the names of the cases that failed.
func failures(t *testing.T, open func() (a, b election.Storage)) (failed []string) {
	t.Helper()
	for _, c := range cases() {
		a, b := open()
		if err := c.check(t.Context(), a, b); err != nil {
			failed = append(failed, c.name)
		}
	}
	return failed
}

// broken is a Storage that is right but for what its functions change.
type broken struct {
	*Memory
	get    func(ctx context.Context) (*election.Record, error)
	update func(ctx context.Context, r *election.Record, isLeaderChanged bool) error
}

func (s broken) Get(ctx context.Context) (*election.Record, error) {
	if s.get == nil {
		return s.Memory.Get(ctx)
	}
	return s.get(ctx)
}

func (s broken) Update(ctx context.Context, r *election.Record, isLeaderChanged bool) error {
	if s.update == nil {
		return s.Memory.Update(ctx, r, isLeaderChanged)
	}
	return s.update(ctx, r, isLeaderChanged)
}

// TestKitFindsBrokenStorages holds the kit to what it is for: each of these
// mistakes makes the case fail that is about it.
func TestKitFindsBrokenStorages(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		breakIt func(m *Memory) broken
		fails   []string
	}{
		"keeps nothing": {func(m *Memory) broken {
			return broken{update: func(context.Context, *election.Record, bool) error { return nil }}
		}, []string{"GetSeesEveryUpdate", "KeepsEveryField", "OneCreatorWins", "NilRecord"}},
		"returns nil before the first update": {func(m *Memory) broken {
			return broken{get: func(ctx context.Context) (*election.Record, error) {
				r, err := m.Get(ctx)
				if r != nil && r.Version == 0 {
					r = nil
				}
				return r, err
			}}
		}, []string{"GetBeforeFirstUpdate"}},
		"hands out what it keeps": {func(m *Memory) broken {
			var mu sync.Mutex
			var kept *election.Record
			var version int64
			return broken{get: func(ctx context.Context) (*election.Record, error) {
				r, err := m.Get(ctx)
				mu.Lock()
				defer mu.Unlock()
				if err == nil && kept != nil && version == r.Version {
					return kept, nil
				}
				if kept = r; err == nil {
					version = r.Version
				}
				return r, err
			}}
		}, []string{"GetIsTheCallers"}},
		"keeps what it is given": {func(m *Memory) broken {
			var mu sync.Mutex
			var given []*election.Member
			return broken{
				get: func(ctx context.Context) (*election.Record, error) {
					r, err := m.Get(ctx)
					mu.Lock()
					defer mu.Unlock()
					if err == nil && given != nil {
						r.Members = given
					}
					return r, err
				},
				update: func(ctx context.Context, r *election.Record, changed bool) error {
					err := m.Update(ctx, r, changed)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						given = r.Members
					}
					return err
				},
			}
		}, []string{"UpdateKeepsNoAlias"}},
		"bumps the caller's version": {func(m *Memory) broken {
			return broken{update: func(ctx context.Context, r *election.Record, changed bool) error {
				err := m.Update(ctx, r, changed)
				if err == nil {
					r.Version++
				}
				return err
			}}
		}, []string{"LeavesCallersRecord"}},
		"forgets to conflict": {func(m *Memory) broken {
			return broken{update: overwrite(m)}
		}, []string{"OldVersionConflicts", "FutureVersionConflicts", "CreationConflicts", "OneCreatorWins", "OneUpdaterWins"}},
		"has another error for a conflict": {func(m *Memory) broken {
			return broken{update: func(ctx context.Context, r *election.Record, changed bool) error {
				if err := m.Update(ctx, r, changed); err != nil {
					return errors.New("duplicate key")
				}
				return nil
			}}
		}, []string{"OldVersionConflicts", "CreationConflicts"}},
		"skips empty values": {func(m *Memory) broken {
			return broken{update: func(ctx context.Context, r *election.Record, changed bool) error {
				before := m.Rows().Leader
				err := m.Update(ctx, r, changed)
				if err == nil && r.LeaderID == "" && before != nil {
					change(m, func(rows *Rows) { rows.Record.LeaderID = before.LeaderID })
				}
				return err
			}}
		}, []string{"ReleaseIsStored"}},
		"guards the first reign only": {func(m *Memory) broken {
			return broken{update: func(ctx context.Context, r *election.Record, changed bool) error {
				return m.Update(ctx, r, changed && r != nil && r.Version == 0)
			}}
		}, []string{"ReignIsGuarded", "TermOfOlderCallers"}},
		"writes the leader row with every renewal": {func(m *Memory) broken {
			return broken{update: func(ctx context.Context, r *election.Record, changed bool) error {
				err := m.Update(ctx, r, true)
				if err == nil && !changed {
					change(m, func(rows *Rows) { rows.Leader.Term = uint64(r.Version) + 1 })
				}
				return err
			}}
		}, []string{"RenewalKeepsReign"}},
		"ignores its ctx": {func(m *Memory) broken {
			return broken{
				get: func(context.Context) (*election.Record, error) { return m.Get(context.Background()) },
				update: func(_ context.Context, r *election.Record, changed bool) error {
					return m.Update(context.Background(), r, changed)
				},
			}
		}, []string{"EndedContext"}},
		"takes negative versions": {func(m *Memory) broken {
			return broken{update: func(ctx context.Context, r *election.Record, changed bool) error {
				if r != nil && r.Version < 0 {
					return nil
				}
				return m.Update(ctx, r, changed)
			}}
		}, []string{"NegativeVersion"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failed := failures(t, func() (a, b election.Storage) {
				m := NewMemory()
				s := test.breakIt(m)
				s.Memory = m
				return s, s
			})
			for _, want := range test.fails {
				if !slices.Contains(failed, want) {
					t.Errorf("case %s did not fail; those that did: %v", want, failed)
				}
			}
		})
	}
}

// change edits what is stored.
func change(m *Memory, edit func(*Rows)) {
	rows := m.Rows()
	edit(&rows)
	m.SetRows(rows)
}

// overwrite stores whatever comes, under a lock but without looking.
func overwrite(m *Memory) func(context.Context, *election.Record, bool) error {
	return func(_ context.Context, r *election.Record, changed bool) error {
		if r == nil || r.Version < 0 {
			return errors.New("bad record")
		}
		next := r.Clone()
		next.Version++
		rows := Rows{Record: next, Leader: m.Rows().Leader}
		if changed {
			rows.Leader = &LeaderRow{LeaderID: r.LeaderID, Term: cmp.Or(r.Term, uint64(r.Version)+1)}
		}
		m.SetRows(rows)
		return nil
	}
}

// A storage that compares and swaps under a lock of its own process, on data
// that two processes share, looks right through one handle. On virtual time the
// two steps of two handles overlap for certain.
func TestKitFindsProcessLocalLocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := failures(t, func() (a, b election.Storage) {
			m := NewMemory()
			return newLocalLock(m), newLocalLock(m.Handle())
		})
		for _, want := range []string{"OneCreatorWins", "OneUpdaterWins"} {
			if !slices.Contains(failed, want) {
				t.Errorf("case %s did not fail; those that did: %v", want, failed)
			}
		}
		failed = failures(t, func() (a, b election.Storage) {
			s := newLocalLock(NewMemory())
			return s, s
		})
		if len(failed) > 0 {
			t.Errorf("one handle alone fails %v", failed)
		}
	})
}

// localLock compares and swaps in two steps, under a lock of its own.
type localLock struct {
	*Memory
	lock chan struct{} // a channel: a blocked mutex would stop virtual time
}

func newLocalLock(m *Memory) *localLock { return &localLock{m, make(chan struct{}, 1)} }

func (s *localLock) Update(ctx context.Context, r *election.Record, changed bool) error {
	s.lock <- struct{}{}
	defer func() { <-s.lock }()
	version := int64(0)
	if stored := s.Rows().Record; stored != nil {
		version = stored.Version
	}
	if ctx.Err() != nil || r == nil || r.Version != version {
		return s.Memory.Update(ctx, r, changed)
	}
	<-time.After(time.Millisecond) // virtual time
	return overwrite(s.Memory)(ctx, r, changed)
}

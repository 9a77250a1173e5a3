package storagetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/sqlelect/election"
)

// expect checks that s holds want. All of the record is compared, also what is not part of its
// JSON: the Version, and Unguarded, which says whether the leader row holds the reign.
func expect(ctx context.Context, s election.Storage, want *election.Record) error {
	got, err := s.Get(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("get: %w", err)
	// A careless Get returns nil for a row that does not exist.
	case got == nil:
		return errors.New("get returned neither a record nor an error")
	case !reflect.DeepEqual(normal(got), normal(want)):
		return fmt.Errorf("stored is\n%s\nwant\n%s", show(got), show(want))
	}
	return nil
}

// wantConflict turns anything but a conflict into an error.
func wantConflict(err error) error {
	if errors.Is(err, election.ErrRecordConflict) {
		return nil
	}
	return fmt.Errorf("want an error wrapping ErrRecordConflict, got %v", err)
}

// normal removes differences that mean nothing to a member: nil and empty, time zones.
func normal(r *election.Record) *election.Record {
	r = r.Clone()
	if len(r.Members) == 0 {
		r.Members = nil
	}
	for _, m := range r.Members {
		m.RenewTime = m.RenewTime.UTC()
		if len(m.Labels) == 0 {
			m.Labels = nil
		}
	}
	return r
}

// scribble changes r and all that r points to, as a caller may do to what it owns.
func scribble(r *election.Record) {
	for _, m := range r.Members {
		*m = election.Member{ID: "scribbled", Labels: m.Labels}
		for key := range m.Labels {
			m.Labels[key] = "scribbled"
		}
	}
	if r.Nominee != nil {
		r.Nominee.ID = "scribbled"
	}
	r.LeaderID, r.Version, r.Term = "scribbled", 77, 77
}

// show prints a record, short enough for a test's output.
func show(r *election.Record) string {
	const limit = 2000
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err.Error()
	}
	if len(text) > limit {
		text = append(text[:limit], "…"...)
	}
	return fmt.Sprintf("version %d, unguarded %v: %s", r.Version, r.Unguarded, text)
}

package storagetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/sqlelect/election"
)

// memberCases holds the contract of election.MemberStorage, sentence by sentence. The ability is
// optional: if a Storage lacks it, or answers a GetMembers with errors.ErrUnsupported, these cases
// are skipped.
func memberCases() []testCase {
	cases := []struct {
		name, sentence string
		check          func(ctx context.Context, a, b election.MemberStorage) error
	}{
		{"Members/NoneAtFirst", "GetMembers returns the entries that are kept apart: none before the first update.", noMembersAtFirst},
		{"Members/KeepsEveryField", "UpdateMember stores the entry: every field of its JSON comes back, by GetMembers of all and of its ID.", keepsEveryMemberField},
		{"Members/AreTheCallers", "The returned entries are the caller's, and so is what was given.", membersAreTheCallers},
		{"Members/CompareAndSwap", "Where something other than before is stored, UpdateMember changes nothing and returns an error wrapping ErrRecordConflict.", membersCompareAndSwap},
		{"Members/Removed", "A nil after removes the entry.", removesMembers},
		{"Members/OneWriterWins", "Of several concurrent updates of one entry at most one succeeds, the others conflict.", oneMemberWriterWins},
		{"Members/LeaveTheRecord", "UpdateMember leaves the record as it is, its Version included.", membersLeaveTheRecord},
		{"Members/WithRecord", "UpdateWithMember is Update and UpdateMember in one: both happen, or neither.", recordWithMember},
		{"Members/ApartByBytes", "IDs that look alike have entries of their own.", membersApartByBytes},
		{"Members/BadInput", "Both nil, or two IDs, are an error.", badMembers},
		{"Members/EndedContext", "Calls end soon after ctx does; one that has ended already stores nothing.", membersEndedContext},
	}
	var all []testCase
	for _, c := range cases {
		all = append(all, testCase{c.name, c.sentence, func(ctx context.Context, a, b election.Storage) error {
			first, ok := a.(election.MemberStorage)
			second, both := b.(election.MemberStorage)
			if !ok || !both {
				return errNoMembers
			}
			if _, err := first.GetMembers(ctx); errors.Is(err, errors.ErrUnsupported) {
				return errNoMembers
			}
			return c.check(ctx, first, second)
		}})
	}
	return all
}

// errNoMembers means that the Storage keeps no entries apart, so there is nothing to check.
var errNoMembers = errors.New("not a MemberStorage")

// expectMembers checks that s keeps these entries apart, and no others.
func expectMembers(ctx context.Context, s election.MemberStorage, want ...*election.Member) error {
	got, err := s.GetMembers(ctx)
	if err != nil {
		return fmt.Errorf("get members: %w", err)
	}
	slices.SortFunc(got, func(a, b *election.Member) int { return strings.Compare(a.ID, b.ID) })
	found, expected := &election.Record{Members: got}, &election.Record{Members: want}
	if !reflect.DeepEqual(normal(found), normal(expected)) {
		return fmt.Errorf("stored are\n%s\nwant\n%s", show(found), show(expected))
	}
	return nil
}

// entry is the entry of a member after that many renewals. UpdateMember compares the Nonce and the
// Renewals alone.
func entry(id string, renewals uint64) *election.Member {
	return &election.Member{ID: id, Nonce: "nonce of " + id, Renewals: renewals, Protocol: 1}
}

// noMembersAtFirst asks for IDs and for all entries: IDs without an entry are skipped, and no
// error.
func noMembersAtFirst(ctx context.Context, a, b election.MemberStorage) error {
	if found, err := a.GetMembers(ctx, "x", "y"); err != nil || len(found) > 0 {
		return fmt.Errorf("got %d members and the error %v", len(found), err)
	}
	return errors.Join(expectMembers(ctx, a), expectMembers(ctx, b))
}

// keepsEveryMemberField reads each entry by its ID and in the list of all. The two may be different
// statements.
func keepsEveryMemberField(ctx context.Context, a, b election.MemberStorage) error {
	for _, m := range full().Members {
		if err := a.UpdateMember(ctx, nil, m); err != nil {
			return err
		}
		found, err := b.GetMembers(ctx, m.ID)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(normal(&election.Record{Members: found}).Members, []*election.Member{normal(&election.Record{Members: []*election.Member{m}}).Members[0]}) {
			return fmt.Errorf("got %+v, want %+v", found, m)
		}
	}
	members := full().Members
	slices.SortFunc(members, func(a, b *election.Member) int { return strings.Compare(a.ID, b.ID) })
	return expectMembers(ctx, b, members...)
}

// membersAreTheCallers changes the entry that was given and the entries that were returned. Neither
// may change what is stored.
func membersAreTheCallers(ctx context.Context, a, b election.MemberStorage) error {
	given := full().Members[0]
	want := given.Clone()
	if err := a.UpdateMember(ctx, nil, given); err != nil {
		return err
	}
	scribble(&election.Record{Members: []*election.Member{given}})
	found, err := b.GetMembers(ctx)
	if err != nil {
		return err
	}
	scribble(&election.Record{Members: found})
	return expectMembers(ctx, a, want)
}

// membersCompareAndSwap names a state that is not stored, in each way in which a member can be
// wrong: it knows of no entry, of an older or a newer one, or of another process's. A conflict must
// leave the entry as it is.
func membersCompareAndSwap(ctx context.Context, a, b election.MemberStorage) error {
	if err := wantConflict(a.UpdateMember(ctx, entry("x", 1), entry("x", 2))); err != nil {
		return fmt.Errorf("when nothing is stored: %w", err)
	}
	if err := a.UpdateMember(ctx, nil, entry("x", 1)); err != nil {
		return err
	}
	if err := b.UpdateMember(ctx, entry("x", 1), entry("x", 2)); err != nil {
		return err
	}
	another := entry("x", 2)
	another.Nonce = "another process"
	for what, err := range map[string]error{
		"none expected":      a.UpdateMember(ctx, nil, entry("x", 3)),
		"an older one":       a.UpdateMember(ctx, entry("x", 1), entry("x", 3)),
		"a newer one":        a.UpdateMember(ctx, entry("x", 3), entry("x", 4)),
		"another process's":  a.UpdateMember(ctx, another, entry("x", 3)),
		"removal of an old":  a.UpdateMember(ctx, entry("x", 1), nil),
		"removal of another": a.UpdateMember(ctx, another, nil),
	} {
		if err := wantConflict(err); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return expectMembers(ctx, b, entry("x", 2))
}

func removesMembers(ctx context.Context, a, b election.MemberStorage) error {
	for _, id := range []string{"x", "y"} {
		if err := a.UpdateMember(ctx, nil, entry(id, 1)); err != nil {
			return err
		}
	}
	if err := b.UpdateMember(ctx, entry("x", 1), nil); err != nil {
		return err
	}
	if err := expectMembers(ctx, a, entry("y", 1)); err != nil {
		return err
	}
	// A member that was removed may join again.
	return a.UpdateMember(ctx, nil, entry("x", 7))
}

// oneMemberWriterWins races for the creation of an entry, and then for its replacement.
func oneMemberWriterWins(ctx context.Context, a, b election.MemberStorage) error {
	for round, before := range []*election.Member{nil, entry("x", 1)} {
		const writers = 8
		var wg sync.WaitGroup
		errs := make([]error, writers)
		for i := range writers {
			s := a
			if i%2 == 1 {
				s = b
			}
			wg.Go(func() { errs[i] = s.UpdateMember(ctx, before, entry("x", uint64(round)+1)) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if err := wantConflict(err); err != nil {
				return err
			}
		}
		if won != 1 {
			return fmt.Errorf("round %d: %d of %d succeeded", round, won, writers)
		}
	}
	return nil
}

// membersLeaveTheRecord adds and removes an entry. The record keeps its Version: otherwise each
// renewal of a follower would be a conflict for the leader.
func membersLeaveTheRecord(ctx context.Context, a, b election.MemberStorage) error {
	want := full()
	if err := a.Update(ctx, want, true); err != nil {
		return err
	}
	want.Version = 1
	if err := b.UpdateMember(ctx, nil, entry("x", 1)); err != nil {
		return err
	}
	return errors.Join(expect(ctx, a, want), b.UpdateMember(ctx, entry("x", 1), nil), expect(ctx, b, want))
}

// recordWithMember lets each half of the write fail by itself, and looks whether the other half has
// happened. Then both halves fit, and both must happen.
func recordWithMember(ctx context.Context, a, b election.MemberStorage) error {
	first := &election.Record{LeaderID: "x", Term: 1, Members: []*election.Member{entry("x", 1)}}
	if err := a.UpdateWithMember(ctx, first, true, nil, entry("x", 1)); err != nil {
		return err
	}
	stored := first.Clone()
	stored.Version = 1
	next := stored.Clone()
	next.LeaderID = "y"
	old := first.Clone()
	for what, err := range map[string]error{
		"an old record": b.UpdateWithMember(ctx, old, true, entry("x", 1), entry("x", 2)),
		"an old member": b.UpdateWithMember(ctx, next, true, entry("x", 9), entry("x", 2)),
		"no member":     b.UpdateWithMember(ctx, next, false, entry("z", 1), nil),
		"a new member":  b.UpdateWithMember(ctx, next, false, nil, entry("x", 1)),
	} {
		if err := wantConflict(err); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if err := errors.Join(expect(ctx, a, stored), expectMembers(ctx, a, entry("x", 1))); err != nil {
		return err
	}
	if err := b.UpdateWithMember(ctx, next, true, entry("x", 1), nil); err != nil {
		return err
	}
	next.Version++
	return errors.Join(expect(ctx, a, next), expectMembers(ctx, a))
}

// membersApartByBytes uses IDs that many collations call equal: they differ in case, in an accent,
// or in a space at the end (trap 25).
func membersApartByBytes(ctx context.Context, a, b election.MemberStorage) error {
	ids := []string{"a", "A", "a ", "á"}
	var want []*election.Member
	for i, id := range ids {
		m := entry(id, uint64(i)+1)
		if err := a.UpdateMember(ctx, nil, m); err != nil {
			return fmt.Errorf("%q: %w", id, err)
		}
		want = append(want, m)
	}
	slices.SortFunc(want, func(a, b *election.Member) int { return strings.Compare(a.ID, b.ID) })
	return expectMembers(ctx, b, want...)
}

// badMembers gives arguments that make no sense. A conflict is the wrong answer to them: the caller
// would read again and try again, without end.
func badMembers(ctx context.Context, a, b election.MemberStorage) error {
	for what, err := range map[string]error{
		"both nil":             a.UpdateMember(ctx, nil, nil),
		"two IDs":              a.UpdateMember(ctx, entry("x", 1), entry("y", 1)),
		"no ID":                a.UpdateMember(ctx, nil, entry("", 1)),
		"both nil, and record": a.UpdateWithMember(ctx, &election.Record{}, false, nil, nil),
		"two IDs, and record":  a.UpdateWithMember(ctx, &election.Record{}, false, entry("x", 1), entry("y", 1)),
		"no record":            a.UpdateWithMember(ctx, nil, false, nil, entry("x", 1)),
	} {
		if err == nil || errors.Is(err, election.ErrRecordConflict) {
			return fmt.Errorf("%s: got %v", what, err)
		}
	}
	return errors.Join(expectMembers(ctx, b), expect(ctx, b, &election.Record{}))
}

// membersEndedContext is endedContext for the methods of a MemberStorage.
func membersEndedContext(ctx context.Context, a, b election.MemberStorage) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := a.GetMembers(ended)
	for what, err := range map[string]error{
		"GetMembers":       err,
		"UpdateMember":     a.UpdateMember(ended, nil, entry("x", 1)),
		"UpdateWithMember": a.UpdateWithMember(ended, &election.Record{}, false, nil, entry("x", 1)),
	} {
		if err == nil {
			return fmt.Errorf("%s succeeded", what)
		}
	}
	return errors.Join(expectMembers(ctx, b), expect(ctx, b, &election.Record{}))
}

package storagetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/sqlelect/election"
)

// cases holds the contract of election.Storage, sentence by sentence. Each case gets two handles on
// a new election. Most cases write through one handle and read through the other, to find a Storage
// that remembers in one process what it has not stored.
func cases() []testCase {
	return []testCase{
		{"GetBeforeFirstUpdate", "Before the first Update, Get returns a zero Record.", getBeforeFirstUpdate},
		{"GetIsTheCallers", "The returned record is the caller's to keep and change.", getIsTheCallers},
		{"GetSeesEveryUpdate", "Get sees every Update acknowledged before the call, through whatever handle.", getSeesEveryUpdate},
		{"KeepsEveryField", "Update stores record: every field that is part of its JSON comes back.", keepsEveryField},
		{"KeepsLargeRecords", "A record of 1 MB is stored like any other.", keepsLargeRecords},
		{"CountsVersions", "Update stores Version + 1, from 0 on, also when nothing else changes.", countsVersions},
		{"LeavesCallersRecord", "Update leaves the caller's record as it was, its Version included.", leavesCallersRecord},
		{"UpdateKeepsNoAlias", "What the caller does to its record after Update changes nothing that is stored.", updateKeepsNoAlias},
		{"OldVersionConflicts", "If another version is stored, Update stores nothing and returns an error wrapping ErrRecordConflict.", oldVersionConflicts},
		{"FutureVersionConflicts", "A version above the stored one conflicts too, also when nothing is stored yet.", futureVersionConflicts},
		{"CreationConflicts", "A second creation (version 0) conflicts.", creationConflicts},
		{"OneCreatorWins", "Of several concurrent Updates of version 0 at most one succeeds, the others conflict.", oneCreatorWins},
		{"OneUpdaterWins", "Of several concurrent Updates of one version at most one succeeds, the others conflict.", oneUpdaterWins},
		{"ReleaseIsStored", "A release stores an empty LeaderID, in the record and in the leader row.", releaseIsStored},
		{"ReignIsGuarded", "isLeaderChanged is true for every acquisition, also by the same ID: LeaderID and Term then go to the leader row.", reignIsGuarded},
		{"RenewalKeepsReign", "A renewal (isLeaderChanged false) leaves the reign as it is.", renewalKeepsReign},
		{"TermOfOlderCallers", "Where a caller knows no terms, the leader row counts its acquisitions.", termOfOlderCallers},
		{"NilRecord", "Update of a nil record is an error and stores nothing.", nilRecord},
		{"NegativeVersion", "Update of a negative Version is an error and stores nothing.", negativeVersion},
		{"EndedContext", "Calls end soon after ctx does; one that has ended already stores nothing.", endedContext},
	}
}

// full is a record with values that a careless encoding would lose:
//
//   - quotes, a backslash and letters of several bytes in an ID
//   - a label with markup, and one whose key is empty
//   - nanoseconds in times and leases, and a negative lease
//   - a checksum of 64 bits, of which a float64 would lose digits
func full() *election.Record {
	renewed := time.Date(2031, 2, 3, 4, 5, 6, 123456789, time.UTC)
	return &election.Record{
		LeaderID: "löwe/ 🦁\\'\"",
		Term:     7,
		Nominee:  &election.Nominee{ID: "erbe", Nonce: "n2"},
		Members: []*election.Member{
			{
				ID: "löwe/ 🦁\\'\"", Name: "日本", Address: "[::1]:80", LeaseDuration: 10*time.Second + 1,
				RenewTime: renewed, Labels: map[string]string{"zone": "a&<b>", "": "e"}, Nonce: "n1",
				Renewals: 1<<53 - 1, Declines: true, Protocol: 1,
			},
			{ID: "erbe", LeaseDuration: -1, RenewTime: renewed.Add(time.Nanosecond), Nonce: "n2"},
		},
		TermFloor:  12,
		FloorLease: 10*time.Second + 1,
		Roster:     1<<63 + 5,
		History:    "n0",
	}
}

func getBeforeFirstUpdate(ctx context.Context, a, b election.Storage) error {
	// The second pass finds a Get that has created something.
	for range 2 {
		for _, s := range []election.Storage{a, b} {
			if err := expect(ctx, s, &election.Record{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// getIsTheCallers changes what it has read, and looks whether that has changed what is stored. It
// finds a Storage that hands out a cached record.
func getIsTheCallers(ctx context.Context, a, b election.Storage) error {
	want := full()
	if err := a.Update(ctx, want, true); err != nil {
		return err
	}
	want.Version = 1
	got, err := a.Get(ctx)
	if err != nil {
		return err
	}
	scribble(got)
	return errors.Join(expect(ctx, a, want), expect(ctx, b, want))
}

// getSeesEveryUpdate writes through either handle by turns, so that reads through a cache or a
// replica show, whichever of the handles has it.
func getSeesEveryUpdate(ctx context.Context, a, b election.Storage) error {
	writer, reader := a, b
	for version := range int64(20) {
		r := &election.Record{LeaderID: fmt.Sprint("m", version%3), Term: uint64(version) + 1, Version: version}
		if err := writer.Update(ctx, r, true); err != nil {
			return err
		}
		r.Version++
		if err := errors.Join(expect(ctx, reader, r), expect(ctx, writer, r)); err != nil {
			return err
		}
		writer, reader = reader, writer
	}
	return nil
}

// keepsEveryField stores full as a change of leader and then as a renewal. The two may be different
// statements, of which one may forget a field.
func keepsEveryField(ctx context.Context, a, b election.Storage) error {
	want := full()
	if err := a.Update(ctx, want, true); err != nil {
		return err
	}
	want.Version = 1
	if err := expect(ctx, b, want); err != nil {
		return err
	}
	want.Members[1].Renewals++
	if err := b.Update(ctx, want, false); err != nil {
		return err
	}
	want.Version = 2
	return expect(ctx, a, want)
}

// keepsLargeRecords stores a record of 1 MiB, as a large election without a MemberStorage has it.
// It finds a column type that ends at 64 KiB.
func keepsLargeRecords(ctx context.Context, a, b election.Storage) error {
	r := &election.Record{Term: 3, Members: []*election.Member{{ID: "m", Name: strings.Repeat("größe ", 1<<20/8)}}}
	if err := a.Update(ctx, r, true); err != nil {
		return err
	}
	r.Version = 1
	if err := b.Update(ctx, r, false); err != nil {
		return err
	}
	r.Version = 2
	return expect(ctx, a, r)
}

// countsVersions writes the same record again and again. If only the Version differs, a Storage
// that counts changed rows must not take its own write for a conflict.
func countsVersions(ctx context.Context, a, b election.Storage) error {
	want := full()
	for i, s := range []election.Storage{a, b, b, a} {
		want.Version = int64(i)
		if err := s.Update(ctx, want, i == 0); err != nil {
			return fmt.Errorf("update of version %d: %w", i, err)
		}
		want.Version++
		if err := expect(ctx, a, want); err != nil {
			return err
		}
	}
	return nil
}

// leavesCallersRecord compares the caller's record after a success and after a conflict. A caller
// that writes again would otherwise name a version that it did not read.
func leavesCallersRecord(ctx context.Context, a, b election.Storage) error {
	given, before := full(), full()
	for version, s := range []election.Storage{a, b} {
		given.Version, before.Version = int64(version), int64(version)
		if err := s.Update(ctx, given, true); err != nil {
			return err
		}
		if !reflect.DeepEqual(given, before) {
			return fmt.Errorf("after a successful Update the caller's record is\n%s\nit was\n%s", show(given), show(before))
		}
	}
	if err := wantConflict(a.Update(ctx, given, true)); err != nil {
		return err
	}
	if !reflect.DeepEqual(given, before) {
		return fmt.Errorf("after a conflict the caller's record is\n%s\nit was\n%s", show(given), show(before))
	}
	return nil
}

// updateKeepsNoAlias is getIsTheCallers for what goes in: it finds a Storage that keeps the
// caller's record instead of a copy.
func updateKeepsNoAlias(ctx context.Context, a, b election.Storage) error {
	given, want := full(), full()
	if err := a.Update(ctx, given, true); err != nil {
		return err
	}
	scribble(given)
	want.Version = 1
	return errors.Join(expect(ctx, a, want), expect(ctx, b, want))
}

// oldVersionConflicts checks the compare-and-swap for renewals and for changes of leader. A loser
// that writes only the leader row is found too: the record then comes back Unguarded.
func oldVersionConflicts(ctx context.Context, a, b election.Storage) error {
	want := full()
	if err := a.Update(ctx, want, true); err != nil {
		return err
	}
	want.Version = 1
	if err := b.Update(ctx, want, false); err != nil {
		return err
	}
	want.Version = 2
	for _, isLeaderChanged := range []bool{false, true} {
		loser := &election.Record{LeaderID: "late", Term: 99, Version: 1}
		if err := wantConflict(a.Update(ctx, loser, isLeaderChanged)); err != nil {
			return err
		}
		if err := expect(ctx, b, want); err != nil {
			return err
		}
	}
	return nil
}

// futureVersionConflicts writes a version that nobody has stored yet. On an empty election it finds
// a Storage that inserts the row whenever the update has found none.
func futureVersionConflicts(ctx context.Context, a, b election.Storage) error {
	ahead := &election.Record{LeaderID: "m", Term: 1, Version: 5}
	for _, isLeaderChanged := range []bool{false, true} {
		if err := wantConflict(a.Update(ctx, ahead, isLeaderChanged)); err != nil {
			return err
		}
	}
	if err := expect(ctx, b, &election.Record{}); err != nil {
		return err
	}
	want := full()
	if err := b.Update(ctx, want, true); err != nil {
		return err
	}
	want.Version = 1
	return errors.Join(wantConflict(a.Update(ctx, ahead, true)), expect(ctx, a, want))
}

// creationConflicts creates the record once more, when it exists: an insert that replaces an
// existing row would erase the election.
func creationConflicts(ctx context.Context, a, b election.Storage) error {
	want := full()
	if err := a.Update(ctx, want, true); err != nil {
		return err
	}
	want.Version = 1
	for _, s := range []election.Storage{a, b} {
		for _, isLeaderChanged := range []bool{false, true} {
			loser := &election.Record{LeaderID: "late", Term: 99}
			if err := wantConflict(s.Update(ctx, loser, isLeaderChanged)); err != nil {
				return err
			}
		}
	}
	return errors.Join(expect(ctx, a, want), expect(ctx, b, want))
}

// oneCreatorWins races for the creation: there is no row yet that a lock could be on (trap 11).
func oneCreatorWins(ctx context.Context, a, b election.Storage) error {
	return race(ctx, a, b, 0, 8)
}

func oneUpdaterWins(ctx context.Context, a, b election.Storage) error {
	if err := a.Update(ctx, full(), true); err != nil {
		return err
	}
	for version := range int64(5) {
		if err := race(ctx, a, b, version+1, 4); err != nil {
			return err
		}
	}
	return nil
}

// race lets n goroutines on each handle update version, half of them as a change of leader (all of
// them, if version is 0). It checks that one of them won, that the others were told of a conflict,
// and that the winner's record is stored. That nobody wins is wrong as well: the election would
// stand still.
func race(ctx context.Context, a, b election.Storage, version int64, n int) error {
	results := make([]error, 2*n)
	start := make(chan struct{})
	var done sync.WaitGroup
	for i := range results {
		s := a
		if i >= n {
			s = b
		}
		done.Go(func() {
			<-start
			r := &election.Record{LeaderID: fmt.Sprint("m", i), Term: 100 + uint64(i), Version: version}
			results[i] = s.Update(ctx, r, version == 0 || i%2 == 0)
		})
	}
	close(start)
	done.Wait()
	winner := -1
	for i, err := range results {
		switch {
		case err == nil && winner >= 0:
			return fmt.Errorf("both Update %d and Update %d of version %d succeeded", winner, i, version)
		case err == nil:
			winner = i
		case !errors.Is(err, election.ErrRecordConflict):
			return fmt.Errorf("update %d of version %d: want ErrRecordConflict, got %w", i, version, err)
		}
	}
	if winner < 0 {
		return fmt.Errorf("no Update of version %d succeeded", version)
	}
	for _, s := range []election.Storage{a, b} {
		got, err := s.Get(ctx)
		if err != nil {
			return err
		}
		if want := fmt.Sprint("m", winner); got.LeaderID != want || got.Version != version+1 {
			return fmt.Errorf("stored is leader %q in version %d, the winner was %q in version %d",
				got.LeaderID, got.Version, want, version+1)
		}
	}
	return nil
}

// releaseIsStored finds a Storage that skips empty values when it updates: the old leader would
// stay recorded after its resignation (trap 1).
func releaseIsStored(ctx context.Context, a, b election.Storage) error {
	r := full()
	if err := a.Update(ctx, r, true); err != nil {
		return err
	}
	r.Version, r.LeaderID = 1, ""
	if err := a.Update(ctx, r, true); err != nil {
		return err
	}
	r.Version = 2
	return expect(ctx, b, r)
}

// reignIsGuarded acquires three times by one ID. A Storage that writes the leader row only if the
// leader's ID is another one leaves the first term there.
func reignIsGuarded(ctx context.Context, a, b election.Storage) error {
	r := &election.Record{LeaderID: "m"}
	for i, s := range []election.Storage{a, b, a} {
		r.Version, r.Term = int64(i), uint64(10*i+3)
		if err := s.Update(ctx, r, true); err != nil {
			return err
		}
		r.Version++
		// expect compares Unguarded, which Get sets if the leader row holds another reign.
		if err := expect(ctx, b, r); err != nil {
			return err
		}
	}
	return nil
}

// renewalKeepsReign finds a Storage whose renewals give the leader row another term: guarded
// transactions of the reign would be refused.
func renewalKeepsReign(ctx context.Context, a, b election.Storage) error {
	r := full()
	if err := a.Update(ctx, r, true); err != nil {
		return err
	}
	for version := range int64(3) {
		r.Version = version + 1
		if err := b.Update(ctx, r, false); err != nil {
			return err
		}
		r.Version++
		if err := expect(ctx, a, r); err != nil {
			return err
		}
	}
	return nil
}

// termOfOlderCallers writes records without a term, as members of the four-column version do. The
// contract of election.Storage does not speak of them. A Storage with a leader row gives each of
// their acquisitions a higher term.
func termOfOlderCallers(ctx context.Context, a, b election.Storage) error {
	var terms [2]uint64
	for i := range terms {
		r := &election.Record{LeaderID: "m", Version: int64(i)}
		if err := a.Update(ctx, r, true); err != nil {
			return err
		}
		got, err := b.Get(ctx)
		switch {
		case err != nil:
			return err
		case got.Unguarded:
			return errors.New("the reign is called unguarded")
		}
		terms[i] = got.Term
	}
	// Both are 0 in a Storage without a leader row.
	if terms != [2]uint64{} && (terms[0] == 0 || terms[1] <= terms[0]) {
		return fmt.Errorf("two acquisitions have the terms %d and %d", terms[0], terms[1])
	}
	return nil
}

// nilRecord and negativeVersion accept any error: the contract leaves open which one it is.
func nilRecord(ctx context.Context, a, b election.Storage) error {
	if err := a.Update(ctx, nil, true); err == nil {
		return errors.New("no error")
	}
	return expect(ctx, b, &election.Record{})
}

func negativeVersion(ctx context.Context, a, b election.Storage) error {
	if err := a.Update(ctx, &election.Record{LeaderID: "m", Version: -1}, true); err == nil {
		return errors.New("no error")
	}
	return expect(ctx, b, &election.Record{})
}

// endedContext calls with a ctx that has ended before. Whether a call that is under way ends soon
// cannot be checked here, because the kit cannot make a Storage slow.
func endedContext(ctx context.Context, a, b election.Storage) error {
	want := full()
	if err := a.Update(ctx, want, true); err != nil {
		return err
	}
	want.Version = 1
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := a.Get(ended); err == nil {
		return errors.New("get returned no error")
	}
	for _, isLeaderChanged := range []bool{false, true} {
		if err := a.Update(ended, &election.Record{LeaderID: "late", Version: 1}, isLeaderChanged); err == nil {
			return errors.New("update returned no error")
		}
	}
	return expect(ctx, b, want)
}

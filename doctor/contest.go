package doctor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/rows"
	"github.com/sqlelect/election/internal/sqldb"
)

// contest lets two connections replace the same version of a record at the same moment, again and
// again. The first time there is no record yet. Each time exactly one of the two must succeed: G1
// rests on this.
func (e *examination) contest(ctx context.Context) finding {
	_, a, b := e.site.in("compare-and-swap")
	const rounds = 20
	start := time.Now()
	for version := range int64(rounds) {
		var errs [2]error
		var both sync.WaitGroup
		for i, s := range []*election.SQLStorage{a, b} {
			// Update compares the Version alone, so the trial need not follow the members' rules
			// for terms.
			record := &election.Record{LeaderID: []string{anna, bert}[i], Term: uint64(version) + 1, Version: version}
			// By turns as a change of leader and as a renewal, because the two count rows in
			// different places.
			both.Go(func() { errs[i] = s.Update(ctx, record, version%2 == 0) })
		}
		both.Wait()
		// The loser must be told of a conflict. After any other error its outcome is unknown, and
		// the round proves nothing.
		winners := 0
		for _, err := range errs {
			switch {
			case err == nil:
				winners++
			case !errors.Is(err, election.ErrRecordConflict):
				return broken("replace the record", err)
			}
		}
		if winners != 1 {
			return failure("%d of 2 writes on version %d succeeded", winners, version).because(
				"Two members can acquire one leadership (G1), or nobody can.",
				"Something between the library and the server loses writes, or miscounts rows: a proxy, a pooler, a wrapped driver.")
		}
	}
	return ok("one of two succeeded, %d times, in %v each", rounds, (time.Since(start) / rounds).Round(time.Microsecond))
}

// affected checks the numbers of affected rows by which compare-and-swap decides: 0 is a conflict,
// 1 is a success. Some engines count the rows that an UPDATE found, others the rows that it
// changed. Each UPDATE here changes the version, as the library's own do, so both counts are the
// same.
func (e *examination) affected(ctx context.Context) finding {
	name, a, _ := e.site.in("affected rows")
	// The Update makes the record row, with version 1.
	if err := a.Update(ctx, &election.Record{}, false); err != nil {
		return broken("create a record", err)
	}
	s := e.site
	for _, w := range []struct {
		what, statement string
		args            []any
		want            int64
	}{
		{"an update that fits", "UPDATE % SET version = 7 WHERE election = ? AND slot = 0 AND version = 1", []any{name}, 1},
		{"an update that no longer fits", "UPDATE % SET version = 8 WHERE election = ? AND slot = 0 AND version = 1", []any{name}, 0},
		// Slot 1000 is free: this election has no member rows.
		{"an insert beside it", s.insertNew(), []any{rows.NewID(), name, 1000}, 1},
		{"an insert of what is there", s.insertNew(), []any{rows.NewID(), name, 1000}, 0},
	} {
		n, err := sqldb.Exec(ctx, e.db, s.sql(w.statement), w.args...)
		if err != nil {
			return broken(w.what, err)
		}
		if n != w.want {
			return failure("%s changed %d rows, and not %d", w.what, n, w.want).because(
				"Members take a write that failed for one that succeeded, or the other way round (G1).",
				"Look for what miscounts: a trigger or rule on the table, a proxy, a wrapped driver.")
		}
	}
	return ok("the counts are right")
}

// insertNew is a statement that inserts a row unless it exists.
func (s *site) insertNew() string {
	return s.dialect.InsertNew + " % " + rows.Columns + " VALUES (?, '', '', 0, ?, ?) " + s.dialect.SkipExisting
}

// oldReads and namePrimary are what the two checks say that can meet a replica: the right to
// CREATE, and read your write.
const (
	oldReads = "Reads are answered by a replica: a Storage must see every write that was acknowledged before. " +
		"Members stay safe, but notice a change of leader late, and cannot tell lag from lost history."
	namePrimary = "Name the primary in the DSN, and exempt this service from the splitting of reads and writes."
)

// readYourWrite writes through one handle and reads through the other, by turns: either one may be
// the handle whose reads go to a replica.
func (e *examination) readYourWrite(ctx context.Context) finding {
	_, a, b := e.site.in("read your write")
	// On a slow link the bound ends the trial before all tries are made.
	const tries, bound = 200, 3 * time.Second
	record := &election.Record{}
	stale, n := 0, 0
	var slowest time.Duration
	start := time.Now()
	for ; n < tries && time.Since(start) < bound; n++ {
		if err := a.Update(ctx, record, false); err != nil {
			return broken("replace the record", err)
		}
		record.Version++
		lag, err := lagOf(ctx, b, record.Version)
		if err != nil {
			return broken("read the record", err)
		}
		if lag > 0 {
			stale, slowest = stale+1, max(slowest, lag)
		}
		a, b = b, a
	}
	if stale > 0 {
		return failure("%d of %d reads were old, by up to %v", stale, n, slowest.Round(time.Millisecond)).because(oldReads, namePrimary)
	}
	return ok("%d reads, none of them old", n)
}

// lagOf returns how long it took until s returned version, or a later one: 0 if its first read did.
// After 5 s, or if ctx ends between two reads, it gives up and returns the time until then: the
// finding is that reads are old, and less for how long.
func lagOf(ctx context.Context, s *election.SQLStorage, version int64) (lag time.Duration, err error) {
	const patience = 5 * time.Second
	start := time.Now()
	for {
		record, err := s.Get(ctx)
		if err != nil {
			return 0, err
		}
		if record.Version >= version {
			return lag, nil
		}
		if lag = max(1, time.Since(start)); lag > patience {
			return lag, nil
		}
		if err := sqldb.Backoff(ctx); err != nil {
			return lag, nil
		}
	}
}

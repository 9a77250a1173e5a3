package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/sqldb"
)

// trials are the checks that hold an election through the library, as members do. Each is skipped
// if there is no place to try it, or no second connection: one connection cannot be in its own way,
// so it proves nothing.
func (e *examination) trials() []check {
	checks := []check{
		{"compare-and-swap", "two connections replaced one record at once", e.contest},
		{"affected rows", "counted the rows that writes changed", e.affected},
		{"guarded transaction", "committed one and rolled one back", e.guarded},
		{"lock of the guard", "changed the leader under a guarded transaction", e.guardLock},
		{"bounded waits", "let a change of leader wait for half a second", e.boundedWait},
		{"hung transactions", "asked for the bound inside a guarded one", e.hung},
		{"past term", "ran a guarded transaction of the term before", e.pastTerm},
		{"read your write", "read on one connection what the other wrote", e.readYourWrite},
		{"wake-ups", "listened for changes of leader", e.wakeUps},
	}
	for i, c := range checks {
		checks[i].try = func(ctx context.Context) finding {
			switch why := e.alone(); {
			case e.site.table == "":
				return skipped("there is no place to try it")
			case why != "":
				return skipped("%s", why)
			}
			return c.try(ctx)
		}
	}
	return checks
}

// The members of the elections that are held in trials.
const (
	anna = "a"
	bert = "b"
)

// leadPatience is how long conflicts are retried. They come from another change in between, or from
// an old read.
const leadPatience = 3 * time.Second

// lead makes id the leader by the rules of an acquisition, and returns the new term.
func lead(ctx context.Context, s *election.SQLStorage, id string) (term uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, leadPatience)
	defer cancel()
	for {
		record, err := s.Get(ctx)
		if err != nil {
			return 0, err
		}
		// A new term is above the record's term and version, as G1 demands. Get has put the leader
		// row's term into the record. There is no term floor: the doctor writes none.
		record.LeaderID, record.Term = id, max(record.Term, uint64(record.Version))+1
		err = s.Update(ctx, record, true)
		if !errors.Is(err, election.ErrRecordConflict) {
			return record.Term, err
		}
		if late := sqldb.Backoff(ctx); late != nil {
			return 0, errors.Join(late, err)
		}
	}
}

// broken is the finding for an error that should not have been.
func broken(doing string, err error) finding {
	return failure("%s: %v", doing, err).because("Elections do not work here.",
		"See what the error tells, and docs/databases.md on rights, settings, proxies and poolers.")
}

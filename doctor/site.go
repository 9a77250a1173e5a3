package doctor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/rows"
	"github.com/sqlelect/election/internal/sqldb"
)

// site is where trials are made: in a table of its own, or in elections of its own in the existing
// table. Each trial has an election of its own.
type site struct {
	db, other *sql.DB
	dialect   *dialect.Dialect
	name      string // of the own table; the names of elections begin with it

	// These fields may be read while a check that was given up still writes them.
	mu        sync.Mutex
	created   bool                    // the own table may exist
	own       bool                    // trials are made in the own table
	table     string                  // quoted; "" as long as nothing can be tried
	member    [2]*election.SQLStorage // through the two handles
	elections []string
}

// newSite returns a site where nothing was made yet. The random name keeps examinations of one
// database apart that run at the same time.
func newSite(e *examination) *site {
	return &site{db: e.db, other: e.Other, dialect: e.dialect, name: fmt.Sprintf("election_doctor_%016x", rand.Uint64())}
}

// touched reports whether there may be something to remove.
func (s *site) touched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.created || len(s.elections) > 0
}

// where says where trials are made, for people.
func (s *site) where() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.table == "":
		return "nothing"
	case s.own:
		return "table " + s.table + ", dropped in the end"
	}
	return "table " + s.table + ", elections " + s.name + "/…, removed in the end"
}

// create creates the own table, but only if it can be dropped again. It first drops the table,
// which is not there: whoever lacks that right must not leave a table behind.
func (s *site) create(ctx context.Context) error {
	if err := s.drop(ctx); err != nil {
		return fmt.Errorf("the right to DROP tables: %w", err)
	}
	s.mu.Lock()
	s.created = true // also after an error, because the table may exist all the same
	s.mu.Unlock()
	start := time.Now()
	for {
		err := s.open(ctx, s.name)
		// The check may have been given up, and leave may have run already: then nothing else drops
		// the table.
		if err == nil && ctx.Err() != nil {
			s.forget()
			return errors.Join(ctx.Err(), s.drop(context.WithoutCancel(ctx)))
		}
		if err == nil || !s.isThere(ctx) {
			return err
		}
		// The table was created, but the server that answers reads does not know it yet. Another
		// check reports that; here it has to be waited for.
		const patience = 5 * time.Second
		if late := sqldb.Backoff(ctx); late != nil || time.Since(start) > patience {
			return fmt.Errorf("%w: %w", errOldReads, err)
		}
	}
}

// forget marks the site as a place where no trial can be made.
func (s *site) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table, s.own = "", false
}

var errOldReads = errors.New("it was created, but reads do not find it")

// isThere reports whether the own table can be written to. It ignores the end of ctx, because it is
// asked after a failure that this end may have caused.
func (s *site) isThere(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, err := s.db.ExecContext(ctx, "DELETE FROM "+s.dialect.Quote(s.name)+" WHERE 1 = 0")
	return err == nil
}

// open opens the storages for trials in the table of that name.
func (s *site) open(ctx context.Context, table string) (err error) {
	var member [2]*election.SQLStorage
	for i, db := range []*sql.DB{s.db, s.other} {
		if member[i], err = election.NewSQLStorage(db, table); err != nil {
			return err
		}
	}
	seen, err := s.dialect.Look(ctx, s.db, table)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.member, s.table, s.own = member, sqldb.Qualified(s.dialect, seen, table), table == s.name
	return nil
}

// in returns the storages of two members of one election, which is called after the trial. It notes
// the name first, so that its rows are removed also if the trial fails halfway.
func (s *site) in(trial string) (name string, a, b *election.SQLStorage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = s.name + "/" + trial
	s.elections = append(s.elections, name)
	return name, s.member[0].Election(name), s.member[1].Election(name)
}

// entryOf returns the name of a row that a leader of the election name writes. This name sorts
// before all elections. Some engines also lock the row after the rows that they look for: a change
// of leader would wait for a row behind it, whether the guard holds or not.
func (s *site) entryOf(name, what string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := s.name + "!" + strings.TrimPrefix(name, s.name+"/") + "/" + what
	s.elections = append(s.elections, entry)
	return entry
}

// sql replaces % by the table's name, and each ? by the engine's placeholder.
func (s *site) sql(query string) string {
	return strings.Replace(s.dialect.Rebind(query), "%", s.table, 1)
}

// entry writes a row of that name, as the work of a leader would.
func (s *site) entry(ctx context.Context, q sqldb.Execer, name string) error {
	_, err := q.ExecContext(ctx, s.sql("INSERT INTO % "+rows.Columns+" VALUES (?, ?, ?, ?, ?, ?)"),
		rows.NewID(), "", "", 0, name, 0)
	return err
}

// entries counts the rows of that name.
func (s *site) entries(ctx context.Context, q sqldb.Execer, name string) (n int, err error) {
	err = q.QueryRowContext(ctx, s.sql("SELECT COUNT(*) FROM % WHERE election = ?"), name).Scan(&n)
	return n, err
}

// remove drops the own table, or removes the rows from the existing table. If it fails, the
// operator has to do so by hand, and the finding holds the statement.
func (s *site) remove(ctx context.Context) finding {
	s.mu.Lock()
	created, own, elections := s.created, s.own, s.elections
	s.mu.Unlock()
	if created {
		if err := s.drop(ctx); err != nil {
			return failure("%v", err).because("The table may still be there.", "DROP TABLE "+s.dialect.Quote(s.name))
		}
	}
	// The rows of trials in the own table are gone with it.
	if own || len(elections) == 0 {
		return ok("table %s is gone", s.name)
	}
	for _, name := range elections {
		err := sqldb.Retry(ctx, func() error {
			_, err := s.db.ExecContext(ctx, s.sql("DELETE FROM % WHERE election = ?"), name)
			return err
		})
		if err != nil {
			return failure("%v", err).because("Rows of this examination may still be there.",
				fmt.Sprintf("DELETE FROM %s WHERE election LIKE '%s%%'", s.table, s.name))
		}
	}
	return ok("the rows of %d elections and entries are gone", len(elections))
}

// drop drops the own table, if it exists. While others have locks on the table, it tries again
// until ctx ends.
func (s *site) drop(ctx context.Context) error {
	return sqldb.Retry(ctx, func() error {
		_, err := s.db.ExecContext(ctx, s.dialect.BoundedDDL+"DROP TABLE IF EXISTS "+s.dialect.Quote(s.name))
		return err
	})
}

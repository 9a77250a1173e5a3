package election

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sqlelect/election/internal/batch"
	"github.com/sqlelect/election/internal/sqldb"
)

// What many members ask for together: those in this process, of all elections of one
// table.

// shared is what the members of one table can do together.
type shared struct {
	records  *batch.Queue[string, foundRows]
	members  *batch.Queue[string, foundMembers]
	renewals *batch.Queue[renewal, bool] // nil where no statement renews many rows
}

func (t *electionTable) share() {
	t.shared.records = batch.New(func(ctx context.Context, elections []string) (found []foundRows, err error) {
		err = sqldb.Retry(ctx, func() (err error) { found, err = t.readRecords(ctx, elections); return err })
		return found, err
	})
	t.shared.members = batch.New(t.readAllMembers)
	if t.dialect.UpdateMany != nil {
		t.shared.renewals = batch.New(t.renew)
	}
}

// in is a list of n parameters.
func in(n int) string { return "(" + parameters(n) + ")" }

// parameters is in without brackets.
func parameters(n int) string { return "?" + strings.Repeat(", ?", n-1) }

func elections(names []string) (args []any, places map[string][]int) {
	places = make(map[string][]int, len(names))
	for i, name := range names {
		if len(places[name]) == 0 {
			args = append(args, name)
		}
		places[name] = append(places[name], i)
	}
	return args, places
}

// readRecords returns what is stored of each election.
func (t *electionTable) readRecords(ctx context.Context, names []string) ([]foundRows, error) {
	args, places := elections(names)
	args = slices.DeleteFunc(args, func(name any) bool { return name == "" })
	all := make([]foundRows, len(names))
	if unnamed := places[""]; len(unnamed) > 0 {
		if err := t.readUnnamed(ctx, all, unnamed); err != nil || len(args) == 0 {
			return all, err
		}
	}
	query := "SELECT election, slot, leader_id, record, version FROM % WHERE election IN " + in(len(args)) + " AND slot IN (?, ?)"
	err := t.query(ctx, query, append(args, recordSlot, leaderSlot), func(rows *sql.Rows) error {
		var name string
		var r scannedRow
		if err := rows.Scan(&name, &r.place, &r.leader, &r.text, &r.version); err != nil {
			return err
		}
		for _, i := range places[name] {
			all[i].add(r, recordSlot)
		}
		return nil
	})
	return all, err
}

// readUnnamed puts what is stored of the election named "", whose rows are found by
// their ids, into those places.
func (t *electionTable) readUnnamed(ctx context.Context, all []foundRows, places []int) error {
	const query = "SELECT id, leader_id, record, version FROM % WHERE id IN (?, ?)"
	return t.query(ctx, query, []any{recordRowID, leaderRowID}, func(rows *sql.Rows) error {
		var r scannedRow
		if err := rows.Scan(&r.place, &r.leader, &r.text, &r.version); err != nil {
			return err
		}
		for _, i := range places {
			all[i].add(r, recordRowID)
		}
		return nil
	})
}

// foundMembers is what is kept apart of one election. Nobody changes it: a thousand
// members in one process have one such picture, not a thousand.
type foundMembers struct {
	members []*Member // sorted by ID
	roster  uint64    // of members
}

func newFoundMembers(members []*Member) foundMembers {
	kept := Record{Members: members}
	kept.dropUnreadable()
	slices.SortFunc(kept.Members, func(a, b *Member) int { return cmp.Compare(a.ID, b.ID) })
	return foundMembers{kept.Members, rosterOf(kept.Members)}
}

// readAllMembers returns the member rows of each election.
func (t *electionTable) readAllMembers(ctx context.Context, names []string) ([]foundMembers, error) {
	args, places := elections(names)
	query := "SELECT election, leader_id, record FROM % WHERE election IN " + in(len(args)) + " AND slot >= ?"
	var members map[string][]*Member
	err := sqldb.Retry(ctx, func() error {
		members = make(map[string][]*Member, len(places))
		return t.query(ctx, query, append(args, firstMember), func(rows *sql.Rows) error {
			var name string
			var id, text sql.NullString
			if err := rows.Scan(&name, &id, &text); err != nil {
				return err
			}
			// One that somebody has spoilt shall not hide all others.
			if m := new(Member); json.Unmarshal([]byte(text.String), m) == nil && m.ID == id.String {
				members[name] = append(members[name], m)
			}
			return nil
		})
	})
	all := make([]foundMembers, len(names))
	for name, at := range places {
		found := newFoundMembers(members[name])
		for _, i := range at {
			all[i] = found
		}
	}
	return all, err
}

func (e electionRows) readMembersOf(ctx context.Context) (foundMembers, error) {
	all, err := e.readAllMembers(ctx, []string{e.election})
	return all[0], err
}

// rowsOf returns the rows behind a storage of this library. A type that embeds one is
// none: it may have methods of its own.
func rowsOf(s Storage) (electionRows, bool) {
	if s, ok := s.(*SQLStorage); ok {
		return s.rows, true
	}
	return ormRowsOf(s)
}

func (t *electionTable) query(ctx context.Context, query string, args []any, each func(*sql.Rows) error) error {
	query, args = t.dialect.Fresh(query, args...)
	return sqldb.OnConn(ctx, t.db, t.dialect, func(q sqldb.Execer) error { return eachRow(ctx, q, t.sql(query), args, each) })
}

func eachRow(ctx context.Context, q sqldb.Execer, query string, args []any, each func(*sql.Rows) error) (err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// renewal replaces one row, a record or a member's, if it still has the version was.
type renewal struct {
	election     string
	slot         int64
	was, version int64
	leaderID     string
	text         any
}

// renew reports of each renewal whether it took place. One that did not found another
// version, or the row locked: it is to be tried alone, which waits.
func (t *electionTable) renew(ctx context.Context, renewals []renewal) ([]bool, error) {
	const columns, row = "(election, slot, was, version, leader_id, record)",
		"(CAST(? AS text), CAST(? AS bigint), CAST(? AS bigint), CAST(? AS bigint), CAST(? AS text), CAST(? AS text))"
	type key struct {
		election string
		slot     int64
	}
	places := make(map[key]int, len(renewals))
	var args []any
	for i, r := range renewals {
		k := key{r.election, r.slot}
		if _, twice := places[k]; twice {
			continue
		}
		places[k] = i
		args = append(args, r.election, r.slot, r.was, r.version, r.leaderID, r.text)
	}
	query := t.dialect.Rebind("WITH renewal "+columns+" AS (VALUES "+row+strings.Repeat(", "+row, len(places)-1)+")") + t.dialect.UpdateMany(t.quoted, rowColumns)
	var renewed []bool
	// One statement and no transaction around it: nothing of it stays open if we stop here.
	err := t.write(ctx, func(q sqldb.Execer) error {
		renewed = make([]bool, len(renewals))
		return eachRow(ctx, q, query, t.dialect.Args(args...), func(rows *sql.Rows) error {
			var k key
			if err := rows.Scan(&k.election, &k.slot); err != nil {
				return err
			}
			i, asked := places[k]
			if !asked {
				return fmt.Errorf("renewed slot %d of %q, which was not asked for", k.slot, k.election)
			}
			renewed[i] = true
			return nil
		})
	})
	return renewed, err
}

// renewTogether reports whether r took place, together with others. If it did not,
// without an error, it is to be tried alone.
func (e electionRows) renewTogether(ctx context.Context, r renewal) (renewed bool, err error) {
	if e.election == "" && r.slot == recordSlot {
		return false, nil
	}
	renewed, _, err = e.shared.renewals.Do(ctx, r)
	return renewed, err
}

package rows

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/sqlelect/election/internal/batch"
	"github.com/sqlelect/election/internal/sqldb"
)

// The members of this process, in all elections of one table, send these statements together.

// shared holds the queues in which the calls of one table's members meet.
type shared struct {
	records  *batch.Queue[string, Found]
	members  *batch.Queue[string, any]
	renewals *batch.Queue[renewal, bool] // nil if no statement of the engine renews many rows
}

func (t *Table) share() {
	t.shared.records = batch.New(func(ctx context.Context, elections []string) (found []Found, err error) {
		err = sqldb.Retry(ctx, func() (err error) { found, err = t.readRecords(ctx, elections); return err })
		return found, err
	})
	t.shared.members = batch.New(t.readAllMembers)
	if t.dialect.UpdateMany != nil {
		t.shared.renewals = batch.New(t.renew)
	}
}

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

// readRecords returns what is stored of each election, in the order of names.
func (t *Table) readRecords(ctx context.Context, names []string) ([]Found, error) {
	args, places := elections(names)
	args = slices.DeleteFunc(args, func(name any) bool { return name == "" })
	all := make([]Found, len(names))
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

// readUnnamed reads the election named "", whose rows are found by their ids. It puts what is
// stored into all[i] for each i of places.
func (t *Table) readUnnamed(ctx context.Context, all []Found, places []int) error {
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

// readAllMembers returns the picture (see Options) of each election's member rows, in the order of
// names.
func (t *Table) readAllMembers(ctx context.Context, names []string) ([]any, error) {
	args, places := elections(names)
	query := "SELECT election, leader_id, record FROM % WHERE election IN " + in(len(args)) + " AND slot >= ?"
	var entries map[string][]Entry
	err := sqldb.Retry(ctx, func() error {
		entries = make(map[string][]Entry, len(places))
		return t.query(ctx, query, append(args, firstMember), func(rows *sql.Rows) error {
			var name string
			var id, text sql.NullString
			err := rows.Scan(&name, &id, &text)
			entries[name] = append(entries[name], Entry{id.String, text.String})
			return err
		})
	})
	all := make([]any, len(names))
	for name, at := range places {
		picture := t.picture(entries[name])
		for _, i := range at {
			all[i] = picture
		}
	}
	return all, err
}

func (e Election) readMembersOf(ctx context.Context) (any, error) {
	all, err := e.readAllMembers(ctx, []string{e.election})
	return all[0], err
}

// renewal replaces one record row or member row, if it still has the version was.
type renewal struct {
	election     string
	slot         int64
	was, version int64
	leaderID     string
	text         any
}

// renew reports for each renewal whether it took place. A renewal does not take place if its row
// has another version or is locked, or if another renewal in the batch is of the same row. The
// caller then tries it alone, and that statement waits for a lock.
func (t *Table) renew(ctx context.Context, renewals []renewal) ([]bool, error) {
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
	// It is one statement without a transaction: if this process stops here, nothing stays open.
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

// renewTogether sends r together with others, and reports whether r took place. If it returns false
// and no error, the caller tries r alone.
func (e Election) renewTogether(ctx context.Context, r renewal) (renewed bool, err error) {
	if e.election == "" && r.slot == recordSlot {
		return false, nil
	}
	renewed, _, err = e.shared.renewals.Do(ctx, r)
	return renewed, err
}

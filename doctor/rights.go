package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// tableChecks are the checks of the elections' table, if there is one, and of this user's rights.
// They also find out where trials can be made.
func (e *examination) tableChecks() []check {
	checks := []check{
		{"table", "looked up the table of the elections", e.table},
		{"right to CREATE", "dropped a table, as if it were there; created it", e.create},
	}
	for _, r := range rights {
		checks = append(checks, check{"right to " + r.name, "ran a statement that concerns no row", func(ctx context.Context) finding {
			return e.right(ctx, r)
		}})
	}
	return append(checks, check{"place to try", "chose where to try the rest", e.settle})
}

// all are the columns of a table that serves named elections and member rows.
var all = []string{"id", "leader_id", "record", "version", "election", "slot"}

// table looks up the table of the elections. That it is missing is no finding, because the first
// member creates it. A table of the four-column version serves members, with one election and more
// conflicts, and is a warning. A table that lacks more was made by another program.
func (e *examination) table(ctx context.Context) finding {
	seen, err := e.dialect.Look(ctx, e.db, e.Table)
	if err != nil {
		return failure("%v", err)
	}
	if e.columns = seen.Columns; len(seen.Columns) == 0 {
		return ok("%s is not there yet: the first member creates it", e.Table)
	}
	if err := sqldb.Unfit(seen, e.Table); err != nil {
		return failure("%v", err).because("No storage can be opened on it, since the guard would not hold there.",
			"Give it up for a table that the library creates.")
	}
	missing := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(e.columns, name) })
	grown := func(name string) bool { return name == "election" || name == "slot" } // a member adds these columns
	switch lacks := strings.Join(missing, ", "); {
	case lacks == "":
		return ok("%s is complete", e.Table)
	case !slices.ContainsFunc(missing, func(name string) bool { return !grown(name) }):
		return warning("%s lacks %s", e.Table, lacks).because(
			"It is of an older version: one election at most, and all members renew in one row, unless this user may add the columns.",
			"Let a member add them at its start (rights: CREATE, ALTER, INDEX, or ownership), or an administrator.")
	default:
		return failure("%s lacks %s", e.Table, lacks).because("It is not a table of this library.", "Name another table.")
	}
}

// create tries whether this user may create a table, which is the place for the trials. Members
// need the right only as long as the elections' table does not exist: if it does, that the right is
// missing is no finding.
func (e *examination) create(ctx context.Context) finding {
	err := e.site.create(ctx)
	switch {
	case err == nil:
		return ok("created %s", e.site.name)
	case errors.Is(err, errOldReads):
		return failure("%v", err).because(oldReads, namePrimary)
	case len(e.columns) > 0:
		return ok("no: %v. It is not needed: table %s is there", err, e.Table)
	}
	return failure("%v", err).because(
		fmt.Sprintf("Table %s does not exist, and no member can create it.", e.Table),
		"Grant CREATE and DROP for this examination, or let an administrator create the table, as docs/databases.md says.")
}

// right is a right that members need. Its statement needs the right and changes nothing: its
// condition is false for every row.
type right struct{ name, statement string }

var rights = []right{
	{"SELECT", "SELECT id, leader_id, record, version FROM % WHERE 1 = 0"},
	{"INSERT", "INSERT INTO % (id, leader_id, record, version) SELECT -1, '', '', 0 FROM (SELECT 1 AS one) t WHERE 1 = 0"},
	{"UPDATE", "UPDATE % SET leader_id = '', record = '', version = 0 WHERE 1 = 0"},
	{rightToRemove, "DELETE FROM % WHERE 1 = 0"},
}

// rightToRemove is the right that members can do without: they do not keep their entries apart
// then.
const rightToRemove = "DELETE"

// right tries one right: on the table of the elections, or if there is none, on the doctor's own.
func (e *examination) right(ctx context.Context, r right) finding {
	table, err := e.site.table, error(nil)
	if len(e.columns) > 0 {
		var seen dialect.Sight
		if seen, err = e.dialect.Look(ctx, e.db, e.Table); err == nil {
			table = sqldb.Qualified(e.dialect, seen, e.Table)
		}
	}
	switch {
	case err != nil:
		return failure("%v", err)
	case table == "":
		return skipped("there is no table to try it on")
	}
	err = sqldb.Retry(ctx, func() error {
		_, err := e.db.ExecContext(ctx, strings.Replace(r.statement, "%", table, 1))
		return err
	})
	if err == nil {
		return ok("yes, on %s", table)
	}
	// After any error, a time limit included, trials keep away from the table: whether they could
	// remove their rows is not known.
	e.lacks = append(e.lacks, r.name)
	// Fatal: the server refuses this statement for good, and members can do without it. Any other
	// error may meet the statements that they need as well.
	if r.name == rightToRemove && dialect.Classify(err) == dialect.Fatal {
		return warning("%v", err).because("All members renew in one row, so that conflicts and the row's size grow with their number.",
			"GRANT DELETE on the table.")
	}
	return failure("%v", err).because("Members cannot take part.", "GRANT SELECT, INSERT, UPDATE, DELETE on the table; or see what else the error tells.")
}

// settle decides where trials are made, now that rights are known. It takes the existing table only
// if trials can remove their rows from it again. If there is no place, nothing that follows can be
// tried, and the report cannot say that elections work.
func (e *examination) settle(ctx context.Context) finding {
	var why string
	switch {
	case e.site.table != "":
		return ok("%s", e.site.where())
	case len(e.columns) == 0:
		why = "there is no table, and none can be created"
	case len(e.lacks) > 0:
		why = "no table can be created, and for the one that is there this user lacks the right to " + strings.Join(e.lacks, ", ")
	case !slices.Contains(e.columns, "slot") || !slices.Contains(e.columns, "election"):
		why = "no table can be created, and the one that is there has no place for another election"
	default:
		err := e.site.open(ctx, e.Table)
		if err == nil {
			return ok("%s", e.site.where())
		}
		why = err.Error()
	}
	return warning("nowhere: %s", why).because("Whether elections work here is not known.",
		"Run this examination as a user that may create and drop tables.")
}

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"

	"github.com/sqlelect/election/doctor"
	"github.com/sqlelect/election/internal/sqldb"
)

const doctorUsage = `Usage: election doctor [--dsn DSN | --dsn-file FILE] [--table NAME] [--json] …

Examines whether a database keeps what elections on it need, through two
connections: whether of two writers one wins, whether the guard of a transaction
holds, whether what one connection writes the other reads, what rights the user
has, how the server is set up, how far its clock is off. It prints a table of what
was tried and seen, and for what is not as it should be, what that means and what
to do.

It works in a table of its own, election_doctor_ and a random number, and drops it
in the end, also after an error or Ctrl-C. Where it may not create one, it adds
rows to the table of the elections and removes them. An SQLite file must exist,
and is opened as the DSN says: name the parameters that your service uses.

The exit status is 0 if all is well or there are only warnings, 1 if a check
failed, 2 if the command line is wrong or the database cannot be reached.

Flags:
  --table NAME     the table of the elections (default "election")
  --json           print the report as JSON
  --strict         let warnings count as failures
  --timeout TIME   for each check (default 10s)
` + dsnUsage

// unreachableError says that there was nothing to examine: the database could not be opened or
// reached. Its status is 2, so that a script can tell it from an unfit database.
type unreachableError struct{ error }

func (e unreachableError) Unwrap() error { return e.error }

// runDoctor examines a database and prints the report to standard output, as a table or as JSON.
// The report is printed also if the examination was interrupted, with the checks made until then.
// Errors go to standard error.
func runDoctor(ctx context.Context, c console, args []string) error {
	var options doctor.Options
	var asJSON, strict bool
	var database dsnFlags
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	database.register(flags)
	flags.StringVar(&options.Table, "table", "", "")
	flags.BoolVar(&asJSON, "json", false, "")
	flags.BoolVar(&strict, "strict", false, "")
	flags.DurationVar(&options.Timeout, "timeout", doctor.DefaultTimeout, "")
	flags.Usage = func() { fmt.Fprint(flags.Output(), doctorUsage) }
	if err := parse(c, flags, args); err != nil {
		return err
	}
	err := database.check()
	if err == nil && options.Timeout <= 0 {
		err = fmt.Errorf("--timeout must be positive, is %v", options.Timeout)
	}
	if err != nil {
		return misused(c, flags, err)
	}
	// A bad DSN is shown without the usage text, which would not help. Its status is 2 as well.
	dsn, err := database.read(c.in)
	if err != nil {
		return unreachableError{err}
	}
	if dsn == "" {
		return misused(c, flags, errors.New("no database is named: use --dsn, --dsn-file or "+dsnVariable))
	}
	report, err := examine(ctx, dsn, options)
	// A report without a check says nothing that the error does not say.
	if len(report.Checks) > 0 {
		err = errors.Join(show(c, redacted(report, dsn), asJSON), err)
	}
	if err != nil {
		return err
	}
	return judge(report, strict)
}

// examine opens the two handles that stand for two members. They are opened as the DSN says,
// without the library's settings for SQLite: what is examined is what the service would get.
func examine(ctx context.Context, dsn string, options doctor.Options) (doctor.Report, error) {
	var handles [2]*sql.DB
	for i := range handles {
		db, err := sqldb.OpenAsIs(dsn)
		if err != nil {
			return doctor.Report{}, unreachableError{err}
		}
		// What was found stands, whatever closing the handle brings.
		defer func() { _ = db.Close() }()
		handles[i] = db
	}
	options.Other = handles[1]
	report, err := doctor.Examine(ctx, handles[0], options)
	err = sqldb.RedactError(dsn, err)
	// An examination that a signal has ended is no database out of reach.
	if err != nil && ctx.Err() == nil {
		return report, unreachableError{err}
	}
	return report, err
}

// redacted takes dsn's secrets out of what drivers and servers said: their errors may quote parts
// of the DSN. What was tried is the doctor's own text, and holds none.
func redacted(report doctor.Report, dsn string) doctor.Report {
	for i := range report.Checks {
		check := &report.Checks[i]
		for _, text := range []*string{&check.Seen, &check.Means, &check.Do} {
			*text = sqldb.RedactText(dsn, *text)
		}
	}
	return report
}

// show prints the report. Its JSON keeps <, > and & as they are, because people read it too.
func show(c console, report doctor.Report, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Fprint(c.out, report)
		return err
	}
	encoder := json.NewEncoder(c.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(report)
}

// judge returns an error if the report holds what must not be: a failure, and under --strict a
// warning. The error is one line on standard error; the report has the details.
func judge(report doctor.Report, strict bool) error {
	switch verdict := report.Verdict(); {
	case verdict == doctor.Failure:
		return errors.New("this database is not fit for elections as it is set up")
	case verdict == doctor.Warning && strict:
		return errors.New("there are warnings")
	}
	return nil
}

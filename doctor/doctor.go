package doctor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dialect"
)

// DefaultTimeout bounds each check of an examination that names no other bound.
const DefaultTimeout = 10 * time.Second

// Options say how to examine. The zero Options suit a program that uses all defaults.
type Options struct {
	// Table is the table of the elections; "" means election.TableNameElection. It need not exist.
	Table string
	// Other is a second handle on the same database. It stands for another member, and may lead to
	// the database by another way (another proxy, another host of a cluster). Nil means another
	// connection of the first handle's pool.
	Other *sql.DB
	// Timeout bounds each check; ≤ 0 means DefaultTimeout. A bound below 6 s is too short to tell a
	// pooler that swallows notifications from a slow server.
	Timeout time.Duration
	// ClockTolerance is how far the database's clock may be from this machine's without a warning;
	// ≤ 0 means one second.
	ClockTolerance time.Duration
}

func (o Options) withDefaults(db *sql.DB) Options {
	if o.Table == "" {
		o.Table = election.TableNameElection
	}
	if o.Other == nil {
		o.Other = db
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.ClockTolerance <= 0 {
		o.ClockTolerance = time.Second
	}
	return o
}

// Examine tries whether elections can be held on the database behind db, as the package comment
// says, and reports what it saw. It blocks, for some seconds. No check takes longer than
// Options.Timeout by more than two seconds.
//
// Examine removes what it creates, also when ctx ends or a check fails. It keeps no connection and
// leaves db open.
//
// It returns an error if db is nil or cannot be reached, or when ctx has ended. The report then
// holds what was seen until then. What is wrong with the database is in the report and is no error:
// see Report.Err.
func Examine(ctx context.Context, db *sql.DB, options Options) (Report, error) {
	if db == nil {
		return Report{}, errors.New("doctor: the database handle must not be nil")
	}
	e := &examination{Options: options.withDefaults(db), db: db}
	e.report.Table = e.Table
	if err := e.connect(ctx); err != nil {
		return e.report, fmt.Errorf("doctor: connect to the database: %w", err)
	}
	e.examine(ctx)
	if e.site != nil {
		e.report.Scratch = e.site.where()
	}
	// This happens also when ctx has ended.
	e.leave(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		return e.report, fmt.Errorf("doctor: %w", context.Cause(ctx))
	}
	return e.report, nil
}

// examination is one call of Examine. Its checks run one after the other.
type examination struct {
	Options
	db       *sql.DB
	dialect  *dialect.Dialect // nil for an engine that is not supported
	identity string
	version  string
	report   Report

	columns []string // of the table of the elections; none while it does not exist
	lacks   []string // rights on it that this user was found to lack
	site    *site    // where trials are made
}

// check is one check to be made.
type check struct {
	name, tried string
	try         func(ctx context.Context) finding
}

// examine makes all checks in order: later checks use what earlier checks have found out. It goes
// on after a failure, so that one examination shows everything.
func (e *examination) examine(ctx context.Context) {
	// What follows needs the engine's dialect. The report ends here if there is none.
	if !e.run(ctx, check{"engine", "asked the server what it is", e.detect}) || e.dialect == nil {
		return
	}
	e.report.Engine, e.report.Version = e.dialect.Name, e.version
	e.site = newSite(e)
	for _, c := range slices.Concat(e.serverChecks(), e.tableChecks(), e.trials()) {
		if !e.run(ctx, c) {
			return
		}
	}
}

// connect waits until both handles have reached the database. Both are pinged, because Other may
// lead to another host. It takes no longer than one check may.
func (e *examination) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	if err := e.db.PingContext(ctx); err != nil {
		return err
	}
	return e.Other.PingContext(ctx)
}

// grace is how long a check is waited for after its ctx has ended.
const grace = 2 * time.Second

// run makes one check and adds the result to the report, unless ctx ended meanwhile. more reports
// whether to go on. The examination does not go on after ctx has ended, or after a check that did
// not end in time: the driver ignores its ctx, and other checks would hang in the same way.
func (e *examination) run(ctx context.Context, c check) (more bool) {
	bounded, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	start := time.Now()
	// The room for one lets the goroutine end also when the check was given up.
	done := make(chan finding, 1)
	go func() { done <- c.try(bounded) }()
	f, more := await(bounded, done)
	if ctx.Err() != nil {
		return false
	}
	e.report.Checks = append(e.report.Checks, Check{
		Name: c.name, Verdict: f.verdict, Tried: c.tried, Seen: f.seen, Means: f.means, Do: f.do, Took: time.Since(start),
	})
	return more
}

// await returns the finding of a check. It waits until bounded has ended, and for grace after that.
// If the check has not ended by then, ended is false, and the finding says so.
func await(bounded context.Context, done <-chan finding) (f finding, ended bool) {
	select {
	case f = <-done:
		return f, true
	case <-bounded.Done():
	}
	patience := time.NewTimer(grace)
	defer patience.Stop()
	select {
	case f = <-done:
		return f, true
	case <-patience.C:
		return failure("no end %v after its ctx has ended; the rest was not tried", grace).
			because("The driver, or what is between it and the server, does not give up when it is told to: renewals may hang.",
				"Set the driver's timeouts in the DSN, and look at the network."), false
	}
}

// leave removes what was created, if anything was, and adds to the report whether it could.
func (e *examination) leave(ctx context.Context) {
	if e.site == nil || !e.site.touched() {
		return
	}
	e.run(ctx, check{"nothing left behind", "removed what was created", e.site.remove})
}

// finding is the result of one check.
type finding struct {
	verdict         Verdict
	seen, means, do string
}

func ok(format string, args ...any) finding {
	return finding{verdict: OK, seen: fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) finding {
	return finding{verdict: Skipped, seen: fmt.Sprintf(format, args...)}
}

func warning(format string, args ...any) finding {
	return finding{verdict: Warning, seen: fmt.Sprintf(format, args...)}
}

func failure(format string, args ...any) finding {
	return finding{verdict: Failure, seen: fmt.Sprintf(format, args...)}
}

// because adds what a finding means and what to do about it.
func (f finding) because(means, do string) finding {
	f.means, f.do = means, do
	return f
}

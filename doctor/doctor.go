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

// Options say how to examine. The zero Options are as a program that uses all
// defaults needs them.
type Options struct {
	// Table is the table of the elections; "" means election.TableNameElection. It
	// need not exist.
	Table string
	// Other is a second handle on the same database: it stands for another member,
	// and may lead there by another way (another proxy, another host of a cluster).
	// Nil means another connection of the first handle's pool.
	Other *sql.DB
	// Timeout bounds each check; ≤ 0 means DefaultTimeout. A bound below 6 s is too
	// short to tell a pooler that swallows notifications from a slow server.
	Timeout time.Duration
	// ClockTolerance is how far the database's clock may be from this machine's
	// without a warning; ≤ 0 means one second.
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

// Examine tries whether elections can be held on the database behind db, as the
// package comment says, and reports what it saw. It takes some seconds, and blocks;
// no check takes longer than Options.Timeout by more than two seconds. What it
// creates it removes, also when ctx ends or a check fails. It keeps no connection and
// leaves db open.
//
// An error means that db cannot be reached, or that ctx has ended: then the report
// holds what was seen until then. What is wrong with the database is in the report,
// and no error: see Report.Err.
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
	// Also when ctx has ended.
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

	columns []string // of the table of the elections, none while it does not exist
	lacks   []string // rights on it that this user was found to lack
	site    *site    // where things are tried
}

// check is one check to be made.
type check struct {
	name, tried string
	try         func(ctx context.Context) finding
}

// examine makes all checks, in order: what a later one needs, an earlier one finds
// out. It goes on after a failure, to find all there is to find at once.
func (e *examination) examine(ctx context.Context) {
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

// connect waits for both handles.
func (e *examination) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	if err := e.db.PingContext(ctx); err != nil {
		return err
	}
	return e.Other.PingContext(ctx)
}

// grace is for how long a check is waited for that should have ended.
const grace = 2 * time.Second

// run makes one check and notes what came of it, unless ctx ended meanwhile. It
// reports whether there is sense in going on: a check that does not end in time,
// since the driver ignores its ctx, is given up, and others would hang likewise.
func (e *examination) run(ctx context.Context, c check) (more bool) {
	bounded, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	start := time.Now()
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

// await returns what comes of a check, at the latest grace after the end of its ctx,
// and whether it has ended by then.
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

// leave removes what was created, if anything was, and says whether it could.
func (e *examination) leave(ctx context.Context) {
	if e.site == nil || !e.site.touched() {
		return
	}
	e.run(ctx, check{"nothing left behind", "removed what was created", e.site.remove})
}

// finding is what came of one check.
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

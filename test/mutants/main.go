// Command mutants checks the tests: it breaks the code on purpose, one patch
// file at a time, and expects the test that the patch names to fail.
//
//	go run ./mutants            # all of them, from the directory test/
//	go run ./mutants -run lease # those whose file name matches
//
// A mutant is a file mutants/*.patch: a unified diff as git writes it, below a
// header that says what is broken and who must notice.
//
//	# mutant: the renewal's trust counts from the reply
//	# trap: 6
//	# test: . TestTrustCountsFromTheStart
//
// "test" is a package directory, relative to the repository, and a test name or
// a pattern for go test -run. A bare name means that test alone. It may stand more
// than once: then each of them must notice. Simulations run up to a thousand worlds,
// or as many as SEEDS says, and the table shows how many it took.
//
// Each mutant is applied to a fresh copy of what git would commit; the working
// tree is never touched. A patch that no longer applies, that does not compile
// or that changes only tests, and a test that is missing, skipped or fails
// without the mutant are failures like a mutant that survives: none of them
// proves anything.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"text/tabwriter"
	"time"
)

type options struct {
	root    string         // the repository
	patches string         // directory of the patch files
	run     *regexp.Regexp // on the names of the patch files
	timeout time.Duration  // of one test run
	skips   bool           // a skipped test is no failure
	verbose bool           // show the output of tests that caught their mutant
}

// result is what became of one mutant.
type result struct {
	name    string
	mutant  mutant
	verdict verdict
	detail  string // what a person needs to mend a failure
	seeds   string // how many worlds of a simulation it took; "" if none was asked
	took    time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := runMain(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "mutants: interrupted")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// runMain returns an error when a mutant did not end as it must, too.
func runMain(ctx context.Context, args []string, out io.Writer) error {
	opts, err := parseFlags(args)
	if err != nil {
		return err
	}
	results, err := testMutants(ctx, opts, out)
	if err != nil {
		return err
	}
	return summarize(out, results, opts.skips)
}

func parseFlags(args []string) (options, error) {
	var opts options
	var run string
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.StringVar(&opts.root, "root", "..", "the repository's `directory`")
	flags.StringVar(&opts.patches, "patches", "mutants", "`directory` of the patch files")
	flags.StringVar(&run, "run", "", "only patch files whose name matches this `regexp`")
	flags.DurationVar(&opts.timeout, "timeout", 8*time.Minute, "of each test run; a mutant that exceeds it is caught")
	flags.BoolVar(&opts.skips, "skips", false, "do not fail for tests that are skipped here, say for want of a server")
	flags.BoolVar(&opts.verbose, "v", false, "show how each mutant was caught")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var err error
	opts.run, err = regexp.Compile(run)
	return opts, err
}

// testMutants runs all chosen mutants in the order of their names and prints
// each as it ends.
func testMutants(ctx context.Context, opts options, out io.Writer) ([]result, error) {
	names, err := findPatches(opts.patches, opts.run)
	if err != nil {
		return nil, err
	}
	work, err := newWorkspace(ctx, opts.root)
	if err != nil {
		return nil, err
	}
	defer work.remove()

	r := runner{work: work, opts: opts, healthy: map[target]outcome{}}
	var results []result
	for _, name := range names {
		start := time.Now()
		res := r.test(ctx, name)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		res.name, res.took = name, time.Since(start)
		results = append(results, res)
		fmt.Fprintf(out, "%-16s %s (%.1fs)\n", res.verdict, name, res.took.Seconds())
		if res.detail != "" && (opts.verbose || !res.verdict.good(opts.skips)) {
			fmt.Fprintf(out, "%s\n", indent(res.detail))
		}
	}
	return results, nil
}

// summarize prints the closing table and returns an error if a row is bad.
func summarize(out io.Writer, results []result, skips bool) error {
	bad := 0
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nVERDICT\tTRAP\tSEEDS\tSECONDS\tMUTANT\tTESTS")
	for _, r := range results {
		mark := ""
		if !r.verdict.good(skips) {
			mark, bad = "FAIL: ", bad+1
		}
		fmt.Fprintf(table, "%s%s\t%s\t%s\t%.1f\t%s: %s\t%v\n",
			mark, r.verdict, r.mutant.trap, r.seeds, r.took.Seconds(), r.name, r.mutant.what, r.mutant.targets)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d mutants failed", bad, len(results))
	}
	fmt.Fprintf(out, "%d mutants, each as it must be\n", len(results))
	return nil
}

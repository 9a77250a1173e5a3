//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// options are what the command line says.
type options struct {
	engines   []string
	duration  time.Duration
	seed      uint64
	members   int
	unguarded bool
	commit    string // of the report
	keep      bool   // the logs, also of a run that found nothing
}

// errBroken is returned when a promise did not hold.
var errBroken = errors.New("a promise did not hold")

// result is what came of the run on one engine.
type result struct {
	engine string
	took   time.Duration
	verdict
	err error // there is no verdict
}

// run runs all engines at the same time, and reports to out. When it returns, all
// that it started has ended.
func run(ctx context.Context, out io.Writer, o options) ([]result, error) {
	dir, err := os.MkdirTemp("", "election-chaos-")
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "seed %d, %d members, %v on each of %s\n", o.seed, o.members, o.duration, strings.Join(o.engines, ", "))
	results := make([]result, len(o.engines))
	var running sync.WaitGroup
	out = &sharedWriter{out: out}
	for i, engine := range o.engines {
		running.Go(func() { results[i] = runOn(ctx, filepath.Join(dir, engine), engine, o, out) })
	}
	running.Wait()
	err = report(out, results, o)
	if err == nil && !o.keep {
		return results, os.RemoveAll(dir)
	}
	fmt.Fprintf(out, "seed %d; the logs are in %s\n", o.seed, dir)
	return results, err
}

// runOn runs one engine, and judges.
func runOn(ctx context.Context, dir, engine string, o options, out io.Writer) (r result) {
	r.engine = engine
	start := time.Now()
	tell := func(format string, arguments ...any) {
		fmt.Fprintf(out, "%6.1f s  %-8s  %s\n", time.Since(start).Seconds(), engine, fmt.Sprintf(format, arguments...))
	}
	if r.err = os.MkdirAll(dir, 0o755); r.err != nil {
		return r
	}
	s, err := newStage(ctx, dir, engine, o, tell)
	if err != nil {
		r.err = err
		return r
	}
	defer func() { r.err = errors.Join(r.err, s.close()) }()
	start = time.Now()
	err = s.perform(ctx, o.duration)
	s.curtain(ctx, err == nil)
	r.took = time.Since(start)
	if err != nil {
		r.err = err
		return r
	}
	h, err := readHistory(ctx, dir, s.ledger)
	if err != nil {
		r.err = err
		return r
	}
	r.verdict = judge(h)
	return r
}

// sharedWriter is for several who write whole lines.
type sharedWriter struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *sharedWriter) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(text)
}

// report prints what was found, and the table. Its error says that something was.
func report(out io.Writer, results []result, o options) (err error) {
	for _, r := range results {
		if r.err != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", r.engine, r.err))
			continue
		}
		if r.Violations() > 0 {
			err = errors.Join(err, fmt.Errorf("%s: %w", r.engine, errBroken))
		}
		r.print(out, r.engine)
	}
	judged := slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.err != nil })
	if len(judged) > 0 {
		fmt.Fprint(out, "\n", table(judged, o, time.Now()), "\n")
	}
	return err
}

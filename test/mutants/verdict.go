package main

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"
)

// verdict is what a mutant's run showed.
type verdict string

const (
	caught        verdict = "caught"
	caughtTimeout verdict = "caught (timeout)"
	survived      verdict = "survived"
	badPatch      verdict = "bad patch file"
	notApplied    verdict = "does not apply"
	notCompiled   verdict = "does not compile"
	testMissing   verdict = "no such test"
	testSkipped   verdict = "test skipped"
	testRed       verdict = "red unpatched"
	testBroken    verdict = "not a test's doing"
)

// good tells whether the verdict is one to be content with.
func (v verdict) good(skips bool) bool {
	return v == caught || v == caughtTimeout || skips && v == testSkipped
}

// runner judges mutants one after the other in one workspace.
type runner struct {
	work    *workspace
	opts    options
	healthy map[target]outcome // of the targets on the unpatched tree
}

// test judges one mutant: first its target on the unpatched tree, then with the
// patch.
func (r *runner) test(ctx context.Context, name string) result {
	patch, err := filepath.Abs(filepath.Join(r.opts.patches, name))
	if err != nil {
		return result{verdict: badPatch, detail: err.Error()}
	}
	m, err := readMutant(patch)
	if err != nil {
		return result{mutant: m, verdict: badPatch, detail: err.Error()}
	}
	res := result{mutant: m}
	for _, t := range m.targets {
		v, detail := r.testHealthy(ctx, t)
		if v == "" {
			v, detail = r.testPatched(ctx, t, patch)
		}
		res.verdict, res.detail = v, tail(detail)
		if !v.good(false) {
			break
		}
		if found := violationAfter.FindStringSubmatch(detail); found != nil {
			res.seeds = found[1]
		}
	}
	return res
}

// violationAfter finds, in the output of a simulation, how many worlds it took.
var violationAfter = regexp.MustCompile(`violation after (\d+) seeds`)

// testHealthy runs the target on the unpatched tree, once for all its mutants.
// No verdict means that it passes there.
func (r *runner) testHealthy(ctx context.Context, t target) (verdict, string) {
	o, known := r.healthy[t]
	detail := ""
	if !known {
		if err := r.work.reset(); err != nil {
			return testBroken, err.Error()
		}
		var err error
		if o, detail, err = goTest(ctx, r.work, t, r.opts.timeout); err != nil {
			return testMissing, err.Error()
		}
		r.healthy[t] = o
	}
	switch o {
	case passed:
		return "", ""
	case noTests:
		return testMissing, detail
	case allSkipped:
		return testSkipped, detail
	}
	return testRed, detail
}

func (r *runner) testPatched(ctx context.Context, t target, patch string) (verdict, string) {
	if err := r.work.reset(); err != nil {
		return testBroken, err.Error()
	}
	if err := r.work.apply(ctx, patch); err != nil {
		return notApplied, err.Error()
	}
	o, detail, err := goTest(ctx, r.work, t, r.opts.timeout)
	if err != nil {
		return testBroken, err.Error()
	}
	verdicts := map[outcome]verdict{
		passed:   survived,
		failed:   caught,
		timedOut: caughtTimeout,
		noBuild:  notCompiled,
		noTests:  testMissing,
		// The test ran before: the mutant made it look away.
		allSkipped: survived,
		broken:     testBroken,
	}
	return verdicts[o], detail
}

// tail keeps the end of a long output, where the failure usually is.
func tail(text string) string {
	const most = 40
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > most {
		lines = append([]string{"…"}, lines[len(lines)-most:]...)
	}
	return strings.Join(lines, "\n")
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

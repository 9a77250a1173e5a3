package archtest

import (
	"slices"
	"strings"
	"testing"
)

// area is a part of the tree that the import rules treat as one: the package
// at dir and everything below it (the root package: only itself).
type area struct {
	dir string
	may []string // areas which it may import, besides itself
}

var (
	base     = []string{"internal/guard", "internal/wakeup", "internal/sqldb", "internal/dialect", "internal/clock", "internal/batch"}
	sibling  = slices.Concat([]string{".", "internal/lease"}, base)
	siblings = []string{"lock", "task", "cron", "eventlog", "kv", "clock"}

	// testSupport is for tests: code that ships may not import it.
	testSupport = []string{"internal/dbtest", "internal/sim", "storagetest"}
	// forbiddenInRoot are import paths that the elector must do without.
	forbiddenInRoot = []string{"net/http", "expvar", "flag", "github.com/prometheus/", "github.com/spf13/"}
)

// areas is the diagram of the architecture: imports point down only. Programs
// (see isProgram) are not in it; they import what they like and nobody imports
// them.
var areas = []area{
	{dir: ".", may: slices.Concat([]string{"internal/rows"}, base)},
	{dir: "coord", may: slices.Concat(sibling, siblings, []string{"electionhttp", "electionprom"})},

	{dir: "lock", may: sibling},
	{dir: "task", may: slices.Concat(sibling, []string{"lock"})},
	{dir: "cron", may: slices.Concat(sibling, []string{"task"})},
	{dir: "eventlog", may: sibling},
	{dir: "kv", may: slices.Concat(sibling, []string{"eventlog"})},
	{dir: "clock", may: sibling},
	{dir: "doctor", may: slices.Concat([]string{".", "internal/rows"}, base)},
	{dir: "electionhttp", may: []string{"."}},
	{dir: "electionprom", may: []string{"."}},
	{dir: "storagetest", may: []string{".", "internal/clock", "internal/sim"}},

	{dir: "internal/batch"},
	{dir: "internal/clock"},
	{dir: "internal/dialect"},
	{dir: "internal/guard", may: []string{"internal/sqldb", "internal/dialect"}},
	{dir: "internal/rows", may: base},
	{dir: "internal/wakeup", may: []string{"internal/sqldb", "internal/dialect"}},
	{dir: "internal/sqldb", may: []string{"internal/dialect", "internal/clock"}},
	{dir: "internal/lease", may: base},
	{dir: "internal/dbtest", may: slices.Concat([]string{"."}, base)},
	{dir: "internal/sim", may: []string{".", "internal/clock"}},
	// What programs play elections in: they alone import it, and no user of the library.
	{dir: "internal/arena", may: slices.Concat([]string{"."}, base)},
	{dir: "internal/archtest"},
	// Any other internal package: below everything public.
	{dir: "internal", may: base},
}

// areaOf returns the area that dir belongs to, the most specific one first.
func areaOf(dir string) (area, bool) {
	best, found := area{}, false
	for _, a := range areas {
		inside := dir == a.dir || a.dir != "." && isUnder(dir, a.dir)
		if inside && (!found || len(a.dir) > len(best.dir)) {
			best, found = a, true
		}
	}
	return best, found
}

// checkImports compares each import inside this repository with the diagram.
func checkImports(files []*file) []finding {
	var findings []finding
	for _, f := range files {
		if isProgram(f.dir) {
			continue
		}
		from, ok := areaOf(f.dir)
		if !ok {
			findings = append(findings, f.find(f.syntax.Package,
				"package %s is not in the diagram: add it to areas, with what it may import", f.dir))
			continue
		}
		for _, spec := range f.imports() {
			if message := badImport(f, from, spec.path); message != "" {
				findings = append(findings, f.find(spec.pos, "%s", message))
			}
		}
	}
	return findings
}

// badImport says what is wrong with one import, or "".
func badImport(f *file, from area, imported string) string {
	dir, ours := repositoryDir(imported)
	if !ours {
		for _, forbidden := range forbiddenInRoot {
			if from.dir == "." && !f.test && matchesPath(imported, forbidden) {
				return "the root package must do without " + imported
			}
		}
		return ""
	}
	to, ok := areaOf(dir)
	switch {
	case isProgram(dir) || !ok:
		return from.dir + " must not import the program " + dir
	case from.dir == to.dir && (from.dir != "internal" || dir == f.dir || f.test):
		return ""
	case slices.Contains(from.may, to.dir):
		return ""
	// A test also sees its own package from outside, and the test kits.
	case f.test && (to.dir == "." || slices.Contains(testSupport, to.dir)):
		return ""
	}
	return f.dir + " must not import " + dir + ": imports point down only"
}

// repositoryDir turns an import path of this repository into a directory.
func repositoryDir(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// matchesPath compares whole path elements; a pattern ending in "/" is a prefix.
func matchesPath(importPath, pattern string) bool {
	return importPath == pattern || strings.HasPrefix(importPath, strings.TrimSuffix(pattern, "/")+"/")
}

func TestImports(t *testing.T) {
	imports := func(p string) string { return "package p\nimport _ \"" + p + "\"\n" }
	var tests []badSource
	for _, test := range []struct {
		file, imports string
		want          string
	}{
		{"elector.go", module + "/internal/sqldb", ""},
		{"elector.go", module + "/internal/dialect", ""},
		{"elector.go", module + "/internal/clock", ""},
		{"elector.go", module + "/internal/lease", "must not import internal/lease"},
		{"elector.go", module + "/internal/dbtest", "must not import internal/dbtest"},
		{"elector.go", module + "/internal/arena", "must not import internal/arena"},
		{"elector.go", module + "/storagetest", "must not import storagetest"},
		{"elector.go", module + "/lock", "must not import lock"},
		{"elector.go", module + "/cmd/election", "must not import the program cmd/election"},
		{"elector.go", "net/http", "must do without net/http"},
		{"elector.go", "net/http/httptest", "must do without net/http/httptest"},
		{"elector.go", "net", ""},
		{"elector.go", "flagship.example/x", ""},
		{"elector.go", "github.com/prometheus/client_golang/prometheus", "must do without"},
		{"elector_test.go", module, ""},
		{"elector_test.go", module + "/storagetest", ""},
		{"elector_test.go", module + "/internal/sim", ""},
		{"elector_test.go", module + "/internal/dbtest", ""},
		{"elector_test.go", module + "/lock", "must not import lock"},
		{"elector_test.go", "net/http", ""},

		{"lock/lock.go", module, ""},
		{"lock/lock.go", module + "/internal/lease", ""},
		{"lock/lock.go", module + "/internal/sqldb", ""},
		{"lock/lock.go", module + "/task", "lock must not import task"},
		{"lock/lock.go", module + "/internal/dbtest", "must not import internal/dbtest"},
		{"lock/lock.go", module + "/internal/brandnew", "must not import internal/brandnew"},
		{"lock/lock_test.go", module + "/internal/dbtest", ""},
		{"lock/lock_test.go", module + "/kv", "lock must not import kv"},
		{"lock/lock_test.go", module + "/lock", ""},
		{"lock/locktable/row.go", module + "/kv", "must not import kv"},
		{"task/task.go", module + "/lock", ""},
		{"task/task.go", module + "/cron", "task must not import cron"},
		{"cron/cron.go", module + "/task", ""},
		{"cron/cron.go", module + "/lock", "cron must not import lock"},
		{"kv/kv.go", module + "/eventlog", ""},
		{"eventlog/log.go", module + "/kv", "eventlog must not import kv"},
		{"clock/clock.go", module + "/lock", "clock must not import lock"},
		{"coord/coord.go", module + "/cron", ""},
		{"coord/coord.go", module + "/electionhttp", ""},
		{"coord/coord.go", module + "/examples/mailer", "must not import the program"},
		{"kv/kv.go", module + "/coord", "kv must not import coord"},

		{"electionhttp/status.go", module, ""},
		{"electionhttp/status.go", module + "/internal/clock", "must not import internal/clock"},
		{"electionprom/collector.go", module + "/electionhttp", "must not import electionhttp"},
		{"storagetest/run.go", module, ""},
		{"storagetest/run.go", module + "/internal/sim", ""},

		{"internal/dialect/facts.go", module + "/internal/sqldb", "must not import internal/sqldb"},
		{"internal/dialect/facts.go", module, "must not import ."},
		{"internal/sqldb/open.go", module + "/internal/dialect", ""},
		{"internal/sqldb/open.go", module, "internal/sqldb must not import ."},
		{"internal/lease/lease.go", module, "internal/lease must not import ."},
		{"internal/lease/lease.go", module + "/lock", "must not import lock"},
		{"internal/brandnew/a.go", module, "internal/brandnew must not import ."},
		{"internal/brandnew/a.go", module + "/internal/sqldb", ""},
		{"internal/brandnew/a.go", module + "/internal/other", "must not import internal/other"},
		{"internal/brandnew/a.go", module + "/internal/sim", "must not import internal/sim"},
		{"doctor/doctor.go", module + "/internal/arena", "must not import internal/arena"},
		{"internal/arena/member.go", module, ""},
		{"internal/arena/ledger.go", module + "/internal/dialect", ""},
		{"internal/arena/ledger.go", module + "/internal/dbtest", "must not import internal/dbtest"},
		{"internal/arena/ledger_test.go", module + "/internal/dbtest", ""},
		{"internal/sim/world.go", module, ""},
		{"internal/sim/world.go", module + "/storagetest", "must not import storagetest"},
		{"internal/sim/world.go", module + "/lock", "must not import lock"},
		{"internal/dbtest/server.go", module, ""},
		{"internal/dbtest/server.go", module + "/internal/sim", "must not import internal/sim"},

		{"cmd/election/main.go", module + "/internal/sim", ""},
		{"examples/mailer/main.go", module + "/kv", ""},
		{"bench/peers.go", module + "/coord", ""},
		{"cmd/election/internal/demo/stage.go", module + "/internal/arena", ""},
		{"test/chaos/chaos.go", module + "/internal/arena", ""},
		{"test/chaos/chaos.go", module + "/internal/dbtest", ""},
		{"queue/queue.go", "fmt", "package queue is not in the diagram"},
	} {
		source := badSource{name: test.file + " imports " + test.imports,
			files: map[string]string{test.file: imports(test.imports)}}
		if test.want != "" {
			source.want = []string{test.want}
		}
		tests = append(tests, source)
	}
	checkBad(t, checkImports, tests)
}

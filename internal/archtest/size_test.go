package archtest

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// The size budget. Tests and generated code have none.
const (
	maxFileLines, medianFileLines           = 450, 160
	maxFuncLines, p90FuncLines, medianFuncs = 75, 35, 10
	// Comment lines, in percent of the non-blank lines of a package that ships.
	minComments, maxComments = 15, 30
	// Lines of test for each line of code that ships. They are counted together and not by package: what
	// internal packages promise shows at the elector and on servers, in tests of the root.
	minTests = 1.0
)

// checkSize finds files and functions over the budget.
func checkSize(files []*file) []finding {
	var findings []finding
	for _, f := range shipped(files) {
		if f.lines > maxFileLines {
			findings = append(findings, f.find(f.syntax.Package, "%d lines, the budget is %d: is it one noun?", f.lines, maxFileLines))
		}
		for _, fn := range functions(f) {
			if n := funcLines(f, fn); n > maxFuncLines {
				findings = append(findings, f.find(fn.Pos(), "%s has %d lines, the budget is %d", fn.Name.Name, n, maxFuncLines))
			}
		}
	}
	return findings
}

func shipped(files []*file) []*file {
	return slices.DeleteFunc(slices.Clone(files), func(f *file) bool { return f.test || ast.IsGenerated(f.syntax) })
}

func functions(f *file) []*ast.FuncDecl {
	var fns []*ast.FuncDecl
	for _, decl := range f.syntax.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok {
			fns = append(fns, fn)
		}
	}
	return fns
}

func funcLines(f *file, fn *ast.FuncDecl) int { return f.line(fn.End()) - f.line(fn.Pos()) + 1 }

// checkBudget finds packages with too few or too many comments, and a tree that is over the budget as a whole.
func checkBudget(files []*file) []finding {
	var findings []finding
	of := map[string][]*file{}
	for _, f := range shipped(files) {
		if ships(f.dir) {
			of[f.dir] = append(of[f.dir], f)
		}
	}
	const fewest = 100 // lines below which a share means nothing
	for dir, fs := range of {
		if m := measure(fs); m.code >= fewest && (m.share() < minComments || m.share() > maxComments) {
			findings = append(findings, finding{dir, 0, fmt.Sprintf("%d%% of the lines are comments, the budget is %d to %d%%",
				m.share(), minComments, maxComments)})
		}
	}
	m := measure(files)
	for _, over := range []struct {
		what     string
		is, most int
	}{
		{"the median file has", quantile(m.files, 0.5), medianFileLines},
		{"the median function has", quantile(m.funcs, 0.5), medianFuncs},
		{"of ten functions nine have up to", quantile(m.funcs, 0.9), p90FuncLines},
	} {
		if over.is > over.most {
			findings = append(findings, finding{".", 0, fmt.Sprintf("%s %d lines, the budget is %d", over.what, over.is, over.most)})
		}
	}
	if m.testRatio() < minTests {
		findings = append(findings, finding{".", 0, fmt.Sprintf("%.2f lines of test per line of code that ships, the budget is %.0f",
			m.testRatio(), minTests)})
	}
	return findings
}

// ships reports whether a user of the module may link the package in dir: the test kits of this module
// and its programs for tests are not for users.
func ships(dir string) bool {
	for _, forTests := range []string{"internal/dbtest", "internal/arena", "internal/archtest", "test"} {
		if dir == forTests || isUnder(dir, forTests) {
			return false
		}
	}
	return true
}

// measures are what the size budget is about.
type measures struct {
	files, funcs                 []int // lines of each
	code, comments, tests, ships int   // non-blank lines; ships: of the code that ships
}

func measure(files []*file) (m measures) {
	for _, f := range shipped(files) {
		m.files = append(m.files, f.lines)
		for _, fn := range functions(f) {
			m.funcs = append(m.funcs, funcLines(f, fn))
		}
		c, n := commentLines(f)
		m.comments, m.code = m.comments+c, m.code+n
		if ships(f.dir) {
			m.ships += n
		}
	}
	for _, f := range files {
		if f.test {
			_, n := commentLines(f)
			m.tests += n
		}
	}
	return m
}

func (m measures) share() int         { return 100 * m.comments / max(m.code, 1) }
func (m measures) testRatio() float64 { return float64(m.tests) / float64(max(m.ships, 1)) }

func (m measures) String() string {
	return fmt.Sprintf("size (budget): files median %d (%d), max %d (%d); functions median %d (%d), p90 %d (%d), max %d (%d); "+
		"comments %d%% of non-blank lines (%d-%d); %.2f lines of test per line of code that ships (%.0f)",
		quantile(m.files, 0.5), medianFileLines, quantile(m.files, 1), maxFileLines,
		quantile(m.funcs, 0.5), medianFuncs, quantile(m.funcs, 0.9), p90FuncLines, quantile(m.funcs, 1), maxFuncLines,
		m.share(), minComments, maxComments, m.testRatio(), minTests)
}

// commentLines counts the lines that hold only a comment, and all non-blank
// ones.
func commentLines(f *file) (comments, nonBlank int) {
	inComment := map[int]bool{}
	for _, group := range f.syntax.Comments {
		for line := f.line(group.Pos()); line <= f.line(group.End()); line++ {
			inComment[line] = true
		}
	}
	for i, text := range strings.Split(string(f.source), "\n") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		nonBlank++
		// A comment behind code shares its line with it.
		if inComment[i+1] && (strings.HasPrefix(text, "//") || strings.HasPrefix(text, "/*") || !strings.Contains(text, "//")) {
			comments++
		}
	}
	return comments, nonBlank
}

func quantile(values []int, q float64) int {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func TestSize(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("\t_ = 0\n", n) }
	checkBad(t, checkSize, []badSource{
		{"file", map[string]string{"a.go": "package p\n" + strings.Repeat("\n", 450)}, []string{"a.go:1: 451 lines"}},
		{"file within", map[string]string{"a.go": "package p\n" + strings.Repeat("\n", 449)}, nil},
		{"function", map[string]string{"a.go": "package p\n\nfunc long() {\n" + lines(74) + "}\n"}, []string{"a.go:3: long has 76 lines"}},
		{"function within", map[string]string{"a.go": "package p\n\nfunc long() {\n" + lines(73) + "}\n"}, nil},
		{"test file", map[string]string{"a_test.go": "package p\n" + strings.Repeat("\n", 999)}, nil},
		{"generated", map[string]string{"a.go": "// Code generated by hand. DO NOT EDIT.\npackage p\n" + strings.Repeat("\n", 999)}, nil},
	})
}

func TestBudget(t *testing.T) {
	plain := strings.Repeat("var _ = 1\n", 100)
	said := strings.Repeat("var _ = 1 // it is\n// one\n", 25) + strings.Repeat("var _ = 1\n", 60)
	tests := "package p\n" + strings.Repeat("var _ = 1\n", 300)
	checkBad(t, checkBudget, []badSource{
		{"few comments", map[string]string{"a.go": "package p\n" + plain, "a_test.go": tests}, []string{".:0: 0% of the lines are comments"}},
		{"enough", map[string]string{"a.go": "package p\n" + said, "a_test.go": tests}, nil},
		{"too many", map[string]string{"a.go": "package p\n" + strings.Repeat("// one\n", 50) + plain, "a_test.go": tests}, []string{".:0: 33% of the lines"}},
		{"few tests", map[string]string{"a.go": "package p\n" + said}, []string{"0.00 lines of test per line of code"}},
		{"not for users", map[string]string{"test/chaos/a.go": "package p\n" + plain, "a_test.go": tests}, nil},
		{"long files", map[string]string{"a.go": "package p\n" + strings.Repeat("\n", 200), "a_test.go": tests}, []string{"the median file has 201 lines"}},
		{"long functions", map[string]string{
			"a.go": "package p\n\nfunc long() {\n" + strings.Repeat("\t_ = 0\n", 34) + "}\n", "a_test.go": tests,
		}, []string{"the median function has 36 lines", "nine have up to 36 lines"}},
	})
}

func TestMeasure(t *testing.T) {
	files := loadBad(t, map[string]string{
		"a.go":      "// Package p is p.\npackage p\n\nfunc f() { // why\n}\n\nfunc g() {}\n",
		"a_test.go": "package p\n\nvar x = 1\n",
	})
	const want = "size (budget): files median 7 (160), max 7 (450); functions median 2 (10), p90 2 (35), max 2 (75); " +
		"comments 20% of non-blank lines (15-30); 0.40 lines of test per line of code that ships (1)"
	if got := measure(files).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

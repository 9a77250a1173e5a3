package archtest

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// virtualTime at the end of a line says that the sleep happens in a synctest
// bubble, where it takes no time and races with nothing.
const virtualTime = "// virtual time"

// checkSleeps finds tests that wait for an amount of time and hope: time.Sleep
// in whatever use, and a bare receive from time.After. A test waits for the
// event itself, or runs on virtual time. A time.Sleep always says so, for those
// who search for it; a receive only where the bubble is not in sight.
func checkSleeps(files []*file) []finding {
	bubbles := bubbleFuncs(files)
	var findings []finding
	for _, f := range files {
		if !f.test {
			continue
		}
		for _, pos := range sleepsIn(f, bubbles[f.dir]) {
			switch marked := strings.Contains(lineText(f, pos), virtualTime); {
			case !marked:
				findings = append(findings, f.find(pos,
					"a sleep in a test: wait for the event, or in a synctest bubble end the line with %q", virtualTime))
			case bubbles[f.dir] == nil:
				findings = append(findings, f.find(pos,
					"%q, but no file of this package imports testing/synctest", virtualTime))
			}
		}
	}
	return findings
}

// bubbleFuncs returns the packages that use testing/synctest, each with its
// functions that run a given function in a bubble, say once per engine.
func bubbleFuncs(files []*file) map[string]map[string]bool {
	dirs := map[string]map[string]bool{}
	for _, f := range files {
		pkg := f.importName("testing/synctest")
		if pkg == "" {
			continue
		}
		if dirs[f.dir] == nil {
			dirs[f.dir] = map[string]bool{}
		}
		for _, fn := range functions(f) {
			if fn.Recv == nil && takesFunc(fn.Type) && callsTest(fn, pkg) {
				dirs[f.dir][fn.Name.Name] = true
			}
		}
	}
	return dirs
}

func takesFunc(t *ast.FuncType) bool {
	return slices.ContainsFunc(t.Params.List, func(param *ast.Field) bool {
		_, ok := param.Type.(*ast.FuncType)
		return ok
	})
}

func callsTest(fn *ast.FuncDecl, pkg string) bool {
	found := false
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		found = found || ok && isSelected(call.Fun, pkg, "Test")
		return !found
	})
	return found
}

// sleepsIn returns the sleeps of one file. What is handed to synctest.Test, or
// to one of the package's functions that call it, is a bubble in sight.
func sleepsIn(f *file, bubbles map[string]bool) []token.Pos {
	clock, synctest := f.importName("time"), f.importName("testing/synctest")
	entersBubble := func(call *ast.CallExpr) bool {
		ident, ok := call.Fun.(*ast.Ident)
		return ok && bubbles[ident.Name] || isSelected(call.Fun, synctest, "Test")
	}
	var found []token.Pos
	var visit func(ast.Node, bool)
	visit = func(root ast.Node, inBubble bool) {
		ast.Inspect(root, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if !inBubble && entersBubble(n) {
					visit(n, true)
					return false
				}
			case *ast.CommClause: // a receive that is a case is a timeout, which is fine
				for _, stmt := range n.Body {
					visit(stmt, inBubble)
				}
				return false
			case *ast.ExprStmt:
				if call := received(n.X); call != nil && !inBubble && isSelected(call.Fun, clock, "After") {
					found = append(found, n.Pos())
				}
			case ast.Expr:
				if isSelected(n, clock, "Sleep") {
					found = append(found, n.Pos())
				}
			}
			return true
		})
	}
	visit(f.syntax, false)
	return found
}

// isSelected reports whether x is pkg.name; pkg is what the file calls the
// package, "" where it does not import it.
func isSelected(x ast.Expr, pkg, name string) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return pkg == "." && x.Name == name
	case *ast.SelectorExpr:
		ident, ok := x.X.(*ast.Ident)
		return ok && pkg != "" && ident.Name == pkg && x.Sel.Name == name
	}
	return false
}

// received returns the call in the expression <-call().
func received(x ast.Expr) *ast.CallExpr {
	if unary, ok := x.(*ast.UnaryExpr); ok && unary.Op == token.ARROW {
		if call, ok := unary.X.(*ast.CallExpr); ok {
			return call
		}
	}
	return nil
}

func lineText(f *file, pos token.Pos) string {
	return strings.Split(string(f.source), "\n")[f.line(pos)-1]
}

func TestSleeps(t *testing.T) {
	inTest := func(imports, body string) map[string]string {
		return map[string]string{"a_test.go": "package p\nimport (" + imports + ")\nfunc f() {\n" + body + "\n}\n"}
	}
	checkBad(t, checkSleeps, []badSource{
		{"sleep", inTest(`"time"`, "time.Sleep(1)"), []string{"a_test.go:4: a sleep in a test"}},
		{"under another name", inTest(`clock "time"`, "clock.Sleep(1)"), []string{"a sleep"}},
		{"dot import", inTest(`. "time"`, "Sleep(1)"), []string{"a sleep"}},
		{"handed on", inTest(`"time"`, "nap := time.Sleep; nap(1)"), []string{"a sleep"}},
		{"by receiving", inTest(`"time"`, "<-time.After(1)"), []string{"a sleep"}},
		{"marked, but on real time", inTest(`"time"`, "time.Sleep(1) // virtual time"), []string{"no file of this package imports"}},
		{"marked on another line", inTest(`"time"; "testing/synctest"`, "// virtual time\ntime.Sleep(1)"), []string{"a sleep"}},
		{"on virtual time", inTest(`"time"; "testing/synctest"`, "time.Sleep(1) // virtual time"), nil},
		{"receiving inside a visible bubble", inTest(`"time"; "testing/synctest"`, "synctest.Test(t, func(t *testing.T) {\n<-time.After(1)\n})"), nil},
		{"receiving inside a bubble of the package's own", map[string]string{
			"each_test.go": "package p\nimport \"testing/synctest\"\nfunc each(f func()) { synctest.Test(t, func(t *testing.T) { f() }) }",
			"a_test.go":    "package p\nimport \"time\"\nfunc f() {\neach(func() { <-time.After(1) })\nother(func() { <-time.After(1) })\n}",
		}, []string{"a_test.go:5: a sleep"}},
		{"sleeping inside a visible bubble", inTest(`"time"; "testing/synctest"`, "synctest.Test(t, func(t *testing.T) {\ntime.Sleep(1)\n})"), []string{":5: a sleep"}},
		{"receiving outside of it", inTest(`"time"; "testing/synctest"`, "synctest.Test(t, g)\n<-time.After(1)"), []string{":5: a sleep"}},
		{"after a case", inTest(`"time"`, "select { case <-done:\n<-time.After(1)\n}"), []string{":5: a sleep"}},
		{"a timeout", inTest(`"time"`, "select { case <-done: case <-time.After(1): }"), nil},
		{"another Sleep", inTest(`"example.com/bed"`, "bed.Sleep(1)"), nil},
		{"not a test", map[string]string{"retry.go": "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }"}, nil},
	})
}

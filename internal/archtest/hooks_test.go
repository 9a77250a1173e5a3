package archtest

import (
	"go/ast"
	"regexp"
	"testing"
)

// testHook recognises names of things that exist for tests alone.
var testHook = regexp.MustCompile(`^(?i:test_?(only|ing)?_?hook)|(ForTest|ForTests|ForTesting|TestOnly|TestHook|TestHooks)$|^(?:[tT]estOnly)[A-Z]`)

// testKits may import package testing in files that are not tests.
var testKits = []string{"storagetest", "internal/dbtest", "internal/sim", "internal/archtest", "test", "bench"}

// checkHooks finds init functions, which run behind everybody's back, and test
// hooks in code that ships. What a test must replace is a parameter.
func checkHooks(files []*file) []finding {
	var findings []finding
	for _, f := range files {
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				findings = append(findings, f.find(fn.Pos(), "func init: do it where the caller can see it"))
			}
		}
		if f.test || isUnder(f.dir, testKits...) {
			continue
		}
		for _, spec := range f.imports() {
			if matchesPath(spec.path, "testing") {
				findings = append(findings, f.find(spec.pos, "code that ships imports %s", spec.path))
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if ident, ok := n.(*ast.Ident); ok && testHook.MatchString(ident.Name) {
				findings = append(findings, f.find(ident.Pos(), "test hook %s in code that ships: make it a parameter", ident.Name))
			}
			return true
		})
	}
	return findings
}

func TestHooks(t *testing.T) {
	checkBad(t, checkHooks, []badSource{
		{"init", map[string]string{"a.go": "package p\nfunc init() {}"}, []string{"a.go:2: func init"}},
		{"init in a test", map[string]string{"a_test.go": "package p\nfunc init() {}"}, []string{"func init"}},
		{"init in a program", map[string]string{"cmd/x/main.go": "package main\nfunc init() {}"}, []string{"func init"}},
		{"a method may have that name", map[string]string{"a.go": "package p\nfunc (t T) init() {}"}, nil},
		{"field", map[string]string{"a.go": "package p\ntype T struct { testHook func() }"}, []string{"test hook testHook"}},
		{"var", map[string]string{"a.go": "package p\nvar testingHookCommit func()"}, []string{"testingHookCommit"}},
		{"setter", map[string]string{"a.go": "package p\nfunc SetClockForTest() {}"}, []string{"SetClockForTest"}},
		{"import", map[string]string{"lock/a.go": "package p\nimport \"testing\""}, []string{"imports testing"}},
		{"import below", map[string]string{"lock/a.go": "package p\nimport \"testing/fstest\""}, []string{"imports testing/fstest"}},
		{"kits and tests may", map[string]string{
			"storagetest/run.go": "package p\nimport \"testing\"",
			"a_test.go":          "package p\nimport \"testing\"\nvar testHook = 1",
		}, nil},
		{"words that only look alike", map[string]string{"a.go": "package p\nvar latestHook, attestOnly, commitHook = 1, 2, 3"}, nil},
	})
}

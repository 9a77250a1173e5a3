package archtest

import (
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// checkComments finds packages and exported names without a doc comment:
// types, functions, methods of exported types and (outside internal) of
// exported interfaces, constants and variables. The comment of a const group
// speaks for its members; variables are documented one by one.
func checkComments(files []*file) []finding {
	var findings []finding
	undocumented := map[string]*file{} // packages, by their first file
	documented := map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		if f.syntax.Doc.Text() != "" {
			documented[f.dir] = true
		} else if undocumented[f.dir] == nil {
			undocumented[f.dir] = f
		}
		if f.syntax.Name.Name != "main" {
			findings = append(findings, bareNames(f)...)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(undocumented)) {
		if f := undocumented[dir]; !documented[dir] {
			findings = append(findings, f.find(f.syntax.Package, "package %s has no package comment", dir))
		}
	}
	return findings
}

func bareNames(f *file) []finding {
	var findings []finding
	report := func(name *ast.Ident, docs ...*ast.CommentGroup) {
		if !name.IsExported() || slices.ContainsFunc(docs, func(d *ast.CommentGroup) bool { return d.Text() != "" }) {
			return
		}
		findings = append(findings, f.find(name.Pos(), "exported %s has no comment", name.Name))
	}
	for _, decl := range f.syntax.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Recv == nil || receiver(decl).IsExported() {
				report(decl.Name, decl.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				reportSpec(decl, spec, report)
				if spec, ok := spec.(*ast.TypeSpec); ok && !isInternal(f.dir) {
					reportMethods(spec, report)
				}
			}
		}
	}
	return findings
}

func reportSpec(decl *ast.GenDecl, spec ast.Spec, report func(*ast.Ident, ...*ast.CommentGroup)) {
	var group *ast.CommentGroup
	if !decl.Lparen.IsValid() || decl.Tok == token.CONST {
		group = decl.Doc
	}
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			report(name, spec.Doc, spec.Comment, group)
		}
	case *ast.TypeSpec:
		report(spec.Name, spec.Doc, group)
	}
}

func reportMethods(spec *ast.TypeSpec, report func(*ast.Ident, ...*ast.CommentGroup)) {
	methods, ok := spec.Type.(*ast.InterfaceType)
	if !ok || !spec.Name.IsExported() {
		return
	}
	for _, method := range methods.Methods.List {
		for _, name := range method.Names {
			report(name, method.Doc, method.Comment)
		}
	}
}

func isInternal(dir string) bool { return slices.Contains(strings.Split(dir, "/"), "internal") }

// receiver returns the name of a method's type, without pointer and type
// parameters.
func receiver(method *ast.FuncDecl) *ast.Ident {
	x := method.Recv.List[0].Type
	for {
		switch t := x.(type) {
		case *ast.Ident:
			return t
		case *ast.StarExpr:
			x = t.X
		case *ast.IndexExpr:
			x = t.X
		case *ast.IndexListExpr:
			x = t.X
		case *ast.ParenExpr:
			x = t.X
		default:
			return ast.NewIdent("_")
		}
	}
}

func TestComments(t *testing.T) {
	in := func(body string) map[string]string {
		return map[string]string{"lock/lock.go": "// Package lock locks.\npackage lock\n" + body}
	}
	checkBad(t, checkComments, []badSource{
		{"package", map[string]string{"lock/a.go": "package lock", "lock/b.go": "package lock"}, []string{"lock/a.go:1: package lock has no package comment"}},
		{"package documented in one file", map[string]string{"lock/a.go": "package lock", "lock/doc.go": "// Package lock locks.\npackage lock"}, nil},
		{"a program needs one too", map[string]string{"cmd/x/main.go": "package main\nfunc Run() {}"}, []string{"no package comment"}},
		{"func", in("func New() {}"), []string{"lock.go:3: exported New has no comment"}},
		{"type", in("type Lock struct{}"), []string{"exported Lock"}},
		{"method", in("// Lock locks.\ntype Lock struct{}\nfunc (l *Lock) Close() {}"), []string{"exported Close"}},
		{"generic method", in("// Lock locks.\ntype Lock[K, V any] struct{}\nfunc (l *Lock[K, V]) Close() {}"), []string{"exported Close"}},
		{"method of a hidden type", in("type lock struct{}\nfunc (l lock) Close() {}"), nil},
		{"interface method", in("// Locker locks.\ntype Locker interface { Lock() }"), []string{"exported Lock "}},
		{"internal interface method", map[string]string{"internal/x/x.go": "// Package x is x.\npackage x\n// Y is y.\ntype Y interface { Z() }"}, nil},
		{"const", in("const Max = 1"), []string{"exported Max"}},
		{"const group with one comment", in("// Limits.\nconst (\n\tMax = 1\n\tMin = 0\n)"), nil},
		{"const group without", in("const (\n\tMax = 1 // the most\n\tMin = 0\n)"), []string{"exported Min"}},
		{"var group with one comment", in("// Errors.\nvar (\n\tErrA, ErrB error\n)"), []string{"exported ErrA", "exported ErrB"}},
		{"only a directive", in("//go:noinline\nfunc New() {}"), []string{"exported New"}},
		{"internal as well", map[string]string{"internal/x/x.go": "// Package x is x.\npackage x\nfunc New() {}"}, []string{"exported New"}},
		{"tests need none", map[string]string{"lock/a_test.go": "package lock\nfunc TestLock() {}"}, nil},
	})
}

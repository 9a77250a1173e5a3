package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sqlelect/election"

// file is one parsed Go file. Build constraints are ignored: a rule holds on
// every operating system at once.
type file struct {
	path   string // slash-separated, relative to the repository
	dir    string // "." for the root package
	test   bool
	lines  int
	source []byte
	syntax *ast.File
	fset   *token.FileSet
}

// finding is one broken rule at one place.
type finding struct {
	path    string
	line    int
	message string
}

func (f finding) String() string { return fmt.Sprintf("%s:%d: %s", f.path, f.line, f.message) }

func (f *file) find(pos token.Pos, format string, args ...any) finding {
	return finding{f.path, f.line(pos), fmt.Sprintf(format, args...)}
}

func (f *file) line(pos token.Pos) int { return f.fset.Position(pos).Line }

// imports returns the file's import paths, each with the name it goes by in
// this file and its position.
func (f *file) imports() []importSpec {
	var specs []importSpec
	for _, spec := range f.syntax.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		specs = append(specs, importSpec{p, name, spec.Pos()})
	}
	return specs
}

// importName is the name which the file has for an imported package, or "".
func (f *file) importName(importPath string) string {
	for _, spec := range f.imports() {
		if spec.path == importPath {
			return spec.name
		}
	}
	return ""
}

type importSpec struct {
	path, name string
	pos        token.Pos
}

// rule is one check of the whole tree.
type rule struct {
	name  string
	check func([]*file) []finding
}

var rules = []rule{
	{"imports", checkImports},
	{"drivers", checkDrivers},
	{"engine names", checkEngineNames},
	{"sleeps", checkSleeps},
	{"comments", checkComments},
	{"names", checkNames},
	{"hooks", checkHooks},
	{"size", checkSize},
	{"budget", checkBudget},
	{"words", checkWords},
}

func TestTree(t *testing.T) {
	files, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("only %d Go files found: the walk does not see the tree", len(files))
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, f := range r.check(files) {
				t.Error(f)
			}
		})
	}
	t.Log(measure(files))
}

// load parses every Go file of every module in the tree, except testdata and
// what the go command itself skips.
func load(tree fs.FS) ([]*file, error) {
	var files []*file
	err := fs.WalkDir(tree, ".", func(p string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p != "." && strings.ContainsAny(entry.Name()[:1], "._"),
			entry.IsDir() && isSkipped(entry.Name()):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir() || path.Ext(p) != ".go":
			return nil
		}
		f, err := parse(tree, p)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

func isSkipped(dir string) bool {
	return dir == "testdata" || dir == "vendor" || dir == "node_modules"
}

func parse(tree fs.FS, p string) (*file, error) {
	source, err := fs.ReadFile(tree, p)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, p, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &file{
		path:   p,
		dir:    path.Dir(p),
		test:   strings.HasSuffix(p, "_test.go"),
		lines:  bytes.Count(source, []byte("\n")),
		source: source,
		syntax: syntax,
		fset:   fset,
	}, nil
}

// isUnder reports whether dir is one of roots or lies below one.
func isUnder(dir string, roots ...string) bool {
	for _, root := range roots {
		if dir == root || strings.HasPrefix(dir, root+"/") {
			return true
		}
	}
	return false
}

// isProgram holds for the directories of programs and of modules of their own,
// which may import and name whatever they like.
func isProgram(dir string) bool { return isUnder(dir, "cmd", "examples", "bench", "test") }

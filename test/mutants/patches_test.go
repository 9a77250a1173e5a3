package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every patch of this folder applies to the tree as it is, and names tests that exist. Whether they notice
// the mutant, only make mutants tells.
func TestPatchesFitTheTree(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	names, err := findPatches(".", regexp.MustCompile(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		m, err := readMutant(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, target := range m.targets {
			if !hasTest(t, filepath.Join(root, target.dir), target.pattern) {
				t.Errorf("%s: no test in %s has the name of %s", name, target.dir, target.pattern)
			}
		}
		patch, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		apply := exec.Command("git", "apply", "--check", patch)
		apply.Dir = root
		if out, err := apply.CombinedOutput(); err != nil {
			t.Errorf("%s does not apply: %s", name, out)
		}
	}
}

// hasTest reports whether a test function in dir has a name that pattern matches, up to its subtests.
func hasTest(t *testing.T, dir, pattern string) bool {
	t.Helper()
	top, _, _ := strings.Cut(pattern, "/")
	match := regexp.MustCompile(top)
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range testFunction.FindAllSubmatch(text, -1) {
			if match.Match(found[1]) {
				return true
			}
		}
	}
	return false
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

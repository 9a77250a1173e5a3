package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// mutant is the header of a patch file.
type mutant struct {
	what    string   // in words
	trap    string   // number in the table of traps, or "-"
	targets []target // each must notice
}

// target is the test that must notice.
type target struct {
	dir     string // slash-separated, relative to the repository
	pattern string // for go test -run
}

func (t target) String() string { return t.dir + " " + t.pattern }

// bareName is a test's whole name, not a pattern.
var bareName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// findPatches returns the chosen files in dir, sorted. None is an error: a run
// without mutants proves nothing.
func findPatches(dir string, run *regexp.Regexp) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, file := range files {
		if name := filepath.Base(file); run.MatchString(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no *.patch in %s matches %q", dir, run)
	}
	return names, nil
}

// readMutant reads the header of a patch file and checks that the patch changes
// code and not only tests.
func readMutant(file string) (mutant, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return mutant{}, err
	}
	m, err := parseHeader(string(text))
	if err != nil {
		return m, err
	}
	return m, checkChanges(string(text))
}

// parseHeader reads the lines that begin with "#", up to the first that does
// not. Each key stands once, but for "test"; unknown ones are an error, so that a typing
// mistake does not go by unseen.
func parseHeader(text string) (mutant, error) {
	values := map[string]string{}
	var m mutant
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if !strings.HasPrefix(line, "#") {
			break
		}
		key, value, ok := strings.Cut(strings.TrimSpace(line[1:]), ":")
		value = strings.TrimSpace(value)
		switch {
		case !ok || value == "":
			return mutant{}, fmt.Errorf("header line %q is not \"# key: value\"", line)
		case key != "mutant" && key != "trap" && key != "test":
			return mutant{}, fmt.Errorf("unknown header key %q", key)
		case values[key] != "" && key != "test":
			return mutant{}, fmt.Errorf("header key %q stands twice", key)
		}
		values[key] = value
		if key == "test" {
			t, err := parseTarget(value)
			if err != nil {
				return mutant{}, err
			}
			m.targets = append(m.targets, t)
		}
	}
	for _, key := range []string{"mutant", "trap", "test"} {
		if values[key] == "" {
			return mutant{}, fmt.Errorf("header lacks \"# %s:\"", key)
		}
	}
	m.what, m.trap = values["mutant"], values["trap"]
	return m, nil
}

func parseTarget(text string) (target, error) {
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return target{}, fmt.Errorf("test %q is not \"<package directory> <test name>\"", text)
	}
	t := target{path.Clean(fields[0]), fields[1]}
	if path.IsAbs(t.dir) || t.dir == ".." || strings.HasPrefix(t.dir, "../") {
		return target{}, fmt.Errorf("package directory %q lies outside the repository", fields[0])
	}
	if bareName.MatchString(t.pattern) {
		t.pattern = "^" + t.pattern + "$"
	}
	if _, err := regexp.Compile(t.pattern); err != nil {
		return target{}, err
	}
	return t, nil
}

// checkChanges refuses a patch that changes no code: breaking a test makes it
// fail, and shows nothing.
func checkChanges(text string) error {
	files, code := 0, 0
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		name, ok := strings.CutPrefix(lines.Text(), "+++ ")
		if !ok {
			name, ok = strings.CutPrefix(lines.Text(), "--- ")
		}
		if !ok || strings.HasPrefix(name, "/dev/null") {
			continue
		}
		files++
		if !strings.Contains(name, "_test.go") && !strings.Contains(name, "/testdata/") {
			code++
		}
	}
	switch {
	case files == 0:
		return errors.New("there is no diff below the header")
	case code == 0:
		return errors.New("the patch changes only tests")
	}
	return lines.Err()
}

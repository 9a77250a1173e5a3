package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sample is a repository with one function and tests of every kind.
var sample = map[string]string{
	"go.mod":     "module example.com/sample\n\ngo 1.26.0\n",
	".gitignore": "ignored.go\n",
	"ignored.go": "this must not be copied: it does not compile\n",
	"max.go": `package sample

func Max(a, b int) int {
	if a > b {
		return a
	}
	return b
}
`,
	"max_test.go": `package sample

import (
	"os"
	"testing"
)

func TestMax(t *testing.T) {
	if Max(2, 1) != 2 {
		t.Error("not the larger one")
	}
}

func TestNothing(t *testing.T) {}

func TestSkipped(t *testing.T) { t.Skip("no server here") }

func TestRed(t *testing.T) { t.Error("always") }

func TestEnds(t *testing.T) {
	for Max(2, 1) != 2 {
	}
}

func TestAlive(t *testing.T) {
	if Max(2, 1) != 2 {
		os.Exit(3)
	}
}
`,
}

const (
	breakMax   = "--- a/max.go\n+++ b/max.go\n@@ -3,3 +3,3 @@\n func Max(a, b int) int {\n-\tif a > b {\n+\tif a < b {\n \t\treturn a\n"
	breakBuild = "--- a/max.go\n+++ b/max.go\n@@ -3,3 +3,3 @@\n func Max(a, b int) int {\n-\tif a > b {\n+\tif a > c {\n \t\treturn a\n"
	stale      = "--- a/max.go\n+++ b/max.go\n@@ -3,3 +3,3 @@\n func Max(a, b int) int {\n-\tif a >= b {\n+\tif a < b {\n \t\treturn a\n"
)

// newSample writes the sample repository and its patches, and returns the flags
// that point the command at them.
func newSample(t *testing.T, patches map[string]string) []string {
	t.Helper()
	root, dir := t.TempDir(), t.TempDir()
	write := func(dir string, files map[string]string) {
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(root, sample)
	write(dir, patches)
	cmd := exec.Command("git", "init", "--quiet", root)
	cmd.Env = gitEnv("")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return []string{"-root", root, "-patches", dir}
}

// patch writes a patch file against the named test of the sample.
func patch(test, diff string) string {
	return "# mutant: for a test\n# trap: -\n# test: . " + test + "\n\n" + diff
}

func TestVerdicts(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a module many times")
	}
	want := map[string]struct {
		text    string
		verdict verdict
	}{
		"caught.patch":    {patch("TestMax", breakMax), caught},
		"exit.patch":      {patch("TestAlive", breakMax), caught},
		"endless.patch":   {patch("TestEnds", breakMax), caughtTimeout},
		"survived.patch":  {patch("TestNothing", breakMax), survived},
		"stale.patch":     {patch("TestMax", stale), notApplied},
		"build.patch":     {patch("TestMax", breakBuild), notCompiled},
		"missing.patch":   {patch("TestGone", breakMax), testMissing},
		"directory.patch": {strings.Replace(patch("TestMax", breakMax), ": . ", ": gone ", 1), testMissing},
		"skipped.patch":   {patch("TestSkipped", breakMax), testSkipped},
		"red.patch":       {patch("TestRed", breakMax), testRed},
		"header.patch":    {"# mutant: and nothing else\n" + breakMax, badPatch},
		"tests.patch":     {patch("TestMax", strings.ReplaceAll(breakMax, "max.go", "max_test.go")), badPatch},
	}
	patches := map[string]string{}
	for name, w := range want {
		patches[name] = w.text
	}
	t.Setenv("TMPDIR", t.TempDir())
	opts, err := parseFlags(append(newSample(t, patches), "-timeout", "2s"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	results, err := testMutants(t.Context(), opts, &out)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(want) {
		t.Errorf("%d results for %d mutants", len(results), len(want))
	}
	for _, r := range results {
		if r.verdict != want[r.name].verdict {
			t.Errorf("%s: %s, want %s\n%s", r.name, r.verdict, want[r.name].verdict, r.detail)
		}
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRunMainFailsForOneSurvivor(t *testing.T) {
	args := newSample(t, map[string]string{
		"caught.patch":   patch("TestMax", breakMax),
		"survived.patch": patch("TestNothing", breakMax),
	})
	var out bytes.Buffer
	err := runMain(t.Context(), args, &out)
	if err == nil || err.Error() != "1 of 2 mutants failed" {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(out.String(), "FAIL: survived") {
		t.Errorf("the table does not say so:\n%s", &out)
	}
	if err := runMain(t.Context(), append(args, "-run", "^caught"), &out); err != nil {
		t.Errorf("without the survivor: %v", err)
	}
}

func TestSkipsAreForgivenWhenAsked(t *testing.T) {
	args := newSample(t, map[string]string{"skipped.patch": patch("TestSkipped", breakMax)})
	if err := runMain(t.Context(), args, &bytes.Buffer{}); err == nil {
		t.Error("a skipped test proves nothing")
	}
	if err := runMain(t.Context(), append(args, "-skips"), &bytes.Buffer{}); err != nil {
		t.Error(err)
	}
}

func TestInterruptEndsTheTestAndCleansUp(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	args := newSample(t, map[string]string{"endless.patch": patch("TestEnds", breakMax)})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	start := time.Now()
	err := runMain(ctx, append(args, "-timeout", "40s"), &bytes.Buffer{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v: it waited for the test's own timeout", took)
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

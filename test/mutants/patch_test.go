package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const goodHeader = "# mutant: trust counts from the reply\n# trap: 6\n# test: lock TestTrust\n"

func TestParseHeader(t *testing.T) {
	got, err := parseHeader(goodHeader + "\ndiff --git a/x.go b/x.go\n# mutant: not a header any more\n")
	if err != nil {
		t.Fatal(err)
	}
	want := mutant{"trust counts from the reply", "6", []target{{"lock", "^TestTrust$"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseHeaderErrors(t *testing.T) {
	for _, test := range []struct{ name, header, want string }{
		{"empty", "", `lacks "# mutant:"`},
		{"diff before header", "diff --git a b\n" + goodHeader, `lacks "# mutant:"`},
		{"no trap", "# mutant: a\n# test: . TestA\n", `lacks "# trap:"`},
		{"no test", "# mutant: a\n# trap: 1\n", `lacks "# test:"`},
		{"empty value", "# mutant:\n", `is not "# key: value"`},
		{"no colon", "# mutant\n", `is not "# key: value"`},
		{"unknown key", goodHeader + "# tets: . TestB\n", `unknown header key "tets"`},
		{"twice", goodHeader + "# trap: 7\n", `"trap" stands twice`},
		{"test without directory", "# mutant: a\n# trap: 1\n# test: TestA\n", "is not"},
		{"test with too much", "# mutant: a\n# trap: 1\n# test: . TestA TestB\n", "is not"},
		{"outside", "# mutant: a\n# trap: 1\n# test: lock/../../x TestA\n", "outside the repository"},
		{"absolute", "# mutant: a\n# trap: 1\n# test: /x TestA\n", "outside the repository"},
		{"pattern", "# mutant: a\n# trap: 1\n# test: . Test(A\n", "missing closing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseHeader(test.header)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]target{
		". TestA":              {".", "^TestA$"},
		"./lock/ TestA/sub":    {"lock", "TestA/sub"},
		"internal/sim  Test.*": {"internal/sim", "Test.*"},
		". TestA|TestB":        {".", "TestA|TestB"},
		". FuzzRecord":         {".", "^FuzzRecord$"},
	} {
		if got, err := parseTarget(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestCheckChanges(t *testing.T) {
	diff := func(names ...string) string {
		text := ""
		for _, name := range names {
			text += "--- a/" + name + "\n+++ b/" + name + "\n@@ -1 +1 @@\n-a\n+b\n"
		}
		return text
	}
	for _, test := range []struct{ name, text, want string }{
		{"no diff", goodHeader, "no diff"},
		{"only tests", diff("lock/lock_test.go", "testdata/x/testdata/golden.json"), "only tests"},
		{"code and tests", diff("lock/lock_test.go", "lock/lock.go"), ""},
		{"deleted file", "--- a/lock/lock.go\n+++ /dev/null\n", ""},
		{"deleted test", "--- a/lock/lock_test.go\n+++ /dev/null\n", "only tests"},
	} {
		err := checkChanges(test.text)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestFindPatches(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.patch", "a.patch", "readme.md"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := findPatches(dir, regexp.MustCompile(""))
	if err != nil || strings.Join(got, " ") != "a.patch b.patch" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := findPatches(dir, regexp.MustCompile("^c")); err == nil {
		t.Error("a run of no mutants must not pass")
	}
}

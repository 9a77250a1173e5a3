package archtest

import (
	"strings"
	"testing"
	"testing/fstest"
)

// badSource is a small tree and the text which a rule's findings must hold, one
// finding per entry of want; none where the source is good.
type badSource struct {
	name  string
	files map[string]string
	want  []string
}

// checkBad runs one rule on each of the sources.
func checkBad(t *testing.T, check func([]*file) []finding, sources []badSource) {
	t.Helper()
	for _, source := range sources {
		t.Run(source.name, func(t *testing.T) {
			got := check(loadBad(t, source.files))
			if len(got) != len(source.want) {
				t.Fatalf("got %d findings %v, want %d", len(got), got, len(source.want))
			}
			for i, want := range source.want {
				if !strings.Contains(got[i].String(), want) {
					t.Errorf("finding %q does not say %q", got[i], want)
				}
			}
		})
	}
}

func loadBad(t *testing.T, sources map[string]string) []*file {
	t.Helper()
	tree := fstest.MapFS{}
	for p, source := range sources {
		tree[p] = &fstest.MapFile{Data: []byte(source)}
	}
	files, err := load(tree)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestLoadSkipsWhatGoSkips(t *testing.T) {
	files := loadBad(t, map[string]string{
		"a.go":                 "package a",
		"lock/b_test.go":       "package lock",
		"lock/testdata/bad.go": "not Go at all",
		".git/hooks/c.go":      "not Go at all",
		"_old/d.go":            "not Go at all",
		"docs/read.md":         "not Go at all",
	})
	var got []string
	for _, f := range files {
		got = append(got, f.path)
	}
	if strings.Join(got, " ") != "a.go lock/b_test.go" {
		t.Errorf("loaded %v", got)
	}
	if files[0].test || !files[1].test {
		t.Error("test files are told apart by their name")
	}
}

func TestLoadFailsOnBrokenSource(t *testing.T) {
	if _, err := load(fstest.MapFS{"a.go": {Data: []byte("package")}}); err == nil {
		t.Error("a file that does not parse must not pass as one without findings")
	}
}

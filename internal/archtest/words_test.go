package archtest

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// retiredWords have a better one in docs/glossary.md, for the same concept.
var retiredWords = map[string]string{
	"heartbeat": "renewal", "ttl": "lease duration", "reap": "evict", "contend": "campaign",
	"hand back": "release", "first version": "four-column version",
}

var retiredPattern = func() *regexp.Regexp {
	var words []string
	for word := range retiredWords {
		words = append(words, word)
	}
	return regexp.MustCompile(`(?i)\b(` + strings.Join(words, "|") + `)s?\b`)
}()

// checkWords finds words that were retired, in code and comments.
func checkWords(files []*file) []finding {
	var findings []finding
	for _, f := range files {
		if f.dir != "internal/archtest" {
			findings = append(findings, wordsIn(f.path, string(f.source))...)
		}
	}
	return findings
}

func wordsIn(name, text string) []finding {
	var findings []finding
	for i, line := range strings.Split(text, "\n") {
		if m := retiredPattern.FindStringSubmatch(line); m != nil {
			word := strings.ToLower(m[1])
			findings = append(findings, finding{name, i + 1, fmt.Sprintf("%q: the glossary's word is %q", word, retiredWords[word])})
		}
	}
	return findings
}

// The glossary names retired words. Pages that compare with peers name theirs in code quotes.
func TestWordsOfThePages(t *testing.T) {
	tree := os.DirFS("../..")
	pages := 0
	err := fs.WalkDir(tree, ".", func(p string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && p != "." && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case path.Ext(p) != ".md" || path.Base(p) == "glossary.md":
			return nil
		}
		text, err := fs.ReadFile(tree, p)
		if err != nil {
			return err
		}
		pages++
		for _, f := range wordsIn(p, quoted.ReplaceAllString(string(text), "")) {
			t.Error(f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages < 10 {
		t.Fatalf("only %d pages found: the walk does not see them", pages)
	}
}

var quoted = regexp.MustCompile("`[^`\n]*`")

func TestWords(t *testing.T) {
	checkBad(t, checkWords, []badSource{
		{"comment", map[string]string{"a.go": "package p\n\n// It sends heartbeats.\n"}, []string{`a.go:3: "heartbeat": the glossary's word is "renewal"`}},
		{"two words", map[string]string{"a.go": "// Package p is of the first version.\npackage p\n"}, []string{`"four-column version"`}},
		{"part of a word", map[string]string{"a.go": "package p\n\nvar throttle, reaped = 1, 2\n"}, nil},
	})
}

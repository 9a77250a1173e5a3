package archtest

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// emptyWords say nothing about what a file or package holds.
var emptyWords = []string{"util", "utils", "common", "helper", "helpers", "manager", "managers", "impl"}

// checkNames finds files, directories and packages with an empty name. A file
// is one noun; its name is that noun.
func checkNames(files []*file) []finding {
	var findings []finding
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.path), ".go"), "_test")
		words := slices.Concat(strings.Split(name, "_"), strings.Split(f.dir, "/"), []string{f.syntax.Name.Name})
		for _, word := range words {
			if isEmptyWord(word) {
				findings = append(findings, f.find(f.syntax.Package, "%q is no name for a file or package: name the thing it holds", word))
				break
			}
		}
	}
	return findings
}

// isEmptyWord also sees the word at the end of a package's name (sqlutil).
func isEmptyWord(word string) bool {
	return slices.ContainsFunc(emptyWords, func(empty string) bool {
		return word == empty || strings.HasSuffix(word, empty) && empty != "common"
	})
}

func TestNames(t *testing.T) {
	checkBad(t, checkNames, []badSource{
		{"file", map[string]string{"util.go": "package p"}, []string{`util.go:1: "util" is no name`}},
		{"part of a file's name", map[string]string{"storage_impl.go": "package p"}, []string{`"impl"`}},
		{"test file", map[string]string{"helpers_test.go": "package p"}, []string{`"helpers"`}},
		{"directory", map[string]string{"internal/common/a.go": "package a"}, []string{`"common"`}},
		{"package", map[string]string{"a.go": "package manager"}, []string{`"manager"`}},
		{"suffix", map[string]string{"internal/sqlutil/open.go": "package sqlutil"}, []string{`"sqlutil"`}},
		{"good", map[string]string{"elector.go": "package election", "simple.go": "package p", "uncommon.go": "package p"}, nil},
	})
}

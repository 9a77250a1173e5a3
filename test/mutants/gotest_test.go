package main

import (
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	on := func(test, action string) string { return `{"Action":"` + action + `","Test":"` + test + `"}` }
	for _, test := range []struct {
		name string
		ok   bool
		out  []string
		want outcome
	}{
		{"pass", true, []string{on("A", "run"), on("A", "pass")}, passed},
		{"fail", false, []string{on("A", "run"), on("A", "fail")}, failed},
		{"fail in a subtest", false, []string{on("A", "run"), on("A/x", "run"), on("A/x", "fail"), on("A", "fail")}, failed},
		{"the process died", false, []string{on("A", "run")}, failed},
		{"nothing ran", true, []string{`{"Action":"output","Output":"testing: warning: no tests to run\n"}`}, noTests},
		{"before the tests", false, []string{`{"Action":"fail"}`}, broken},
		{"after the tests", false, []string{on("A", "run"), on("A", "pass"), `{"Action":"fail"}`}, broken},
		{"skip", true, []string{on("A", "run"), on("A", "skip")}, allSkipped},
		{"every subtest skips", true, []string{on("A", "run"), on("A/x", "run"), on("A/x", "skip"), on("A", "pass")}, allSkipped},
		{"one subtest skips", true, []string{on("A", "run"), on("A/x", "run"), on("A/x", "skip"), on("A/y", "run"), on("A/y", "pass"), on("A", "pass")}, passed},
		{"build", false, []string{`{"Action":"build-fail"}`, `{"Action":"fail","FailedBuild":"p"}`}, noBuild},
		{"timeout", false, []string{on("A", "run"), `{"Action":"output","Test":"A","Output":"panic: test timed out after 1s\n"}`, on("A", "fail")}, timedOut},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, _ := classify(strings.Join(test.out, "\n"), test.ok); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestClassifyKeepsAllText(t *testing.T) {
	_, text := classify("go: no such module\n"+`{"Action":"output","Output":"lock_test.go:7: two leaders\n"}`, false)
	if text != "go: no such module\nlock_test.go:7: two leaders\n" {
		t.Errorf("got %q", text)
	}
}

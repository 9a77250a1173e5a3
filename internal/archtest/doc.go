// Package archtest keeps the shape of the source tree: who may import whom,
// where databases may be named, how tests may wait, what must carry a comment,
// and how long files and functions may grow.
//
// It has no code of its own, only tests. Every rule is a function from a parsed
// tree to findings. TestTree runs all of them on the repository; beside each
// rule stands a table of small bad sources which it must find, so that a rule
// that has gone blind fails as well.
//
// The import rules are a table, in imports_test.go. A package the table does
// not know is a finding too: whoever adds one says there what it may import.
package archtest

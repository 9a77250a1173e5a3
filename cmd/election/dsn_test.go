package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// named returns the DSN that args and the environment name.
func named(t *testing.T, variable, stdin string, args ...string) (string, error) {
	t.Helper()
	t.Setenv(dsnVariable, variable)
	var f dsnFlags
	flags := flag.NewFlagSet("", flag.PanicOnError)
	f.register(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	if err := f.check(); err != nil {
		t.Fatal(err)
	}
	dsn, err := f.read(strings.NewReader(stdin))
	if inherited := os.Getenv(dsnVariable); inherited != "" {
		t.Errorf("processes inherit %q", inherited)
	}
	return dsn, err
}

func TestWhatNamesTheDatabase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(file, []byte("sqlite:file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want, variable, stdin string
		args                  []string
	}{
		{"", "", "", nil},
		{"sqlite:variable", "sqlite:variable", "", nil},
		{"sqlite:flag", "sqlite:variable", "", []string{"--dsn", "sqlite:flag"}},
		{"sqlite:file", "sqlite:variable", "", []string{"--dsn-file", file}},
		{"sqlite:stdin", "", "sqlite:stdin", []string{"--dsn-file=-"}},
	} {
		if got, err := named(t, c.variable, c.stdin, c.args...); err != nil || got != c.want {
			t.Errorf("%v: got %q, error %v; want %q", c.args, got, err, c.want)
		}
	}
}

func TestBadDSNNamesItsSource(t *testing.T) {
	for _, c := range []struct {
		want, variable, stdin string
		args                  []string
	}{
		{"ELECTION_DSN: database", "mysql://u:geheim@h", "", nil},
		{"--dsn: database", "", "", []string{"--dsn", "mysql:u:geheim@tcp(h)/d"}},
		{"--dsn-file -: database", "", "mysql://u:geh@eim@h/d", []string{"--dsn-file", "-"}},
		{"--dsn-file -: it holds no DSN", "", " \n", []string{"--dsn-file", "-"}},
		{"--dsn-file -: it holds more than one line", "", "mysql://u:geheim@h/d\nmysql://h/d", []string{"--dsn-file", "-"}},
		{"--dsn-file /does/not/exist: ", "", "", []string{"--dsn-file", "/does/not/exist"}},
	} {
		dsn, err := named(t, c.variable, c.stdin, c.args...)
		if err == nil || dsn != "" || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "eim") {
			t.Errorf("got %q, error %v; want %q", dsn, err, c.want)
		}
	}
}

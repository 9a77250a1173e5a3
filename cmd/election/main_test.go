package main

import (
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// programVariable makes the test program behave as the program itself; the
// members that a demo starts inherit it.
const programVariable = "ELECTION_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args        string
		status      int
		out, stderr string // parts of the output; "" for none at all
	}{
		{"", exitUsage, "", "Usage: election <command>"},
		{"help", exitOK, "Usage: election <command>", ""},
		{"-h", exitOK, "Usage: election <command>", ""},
		{"--help", exitOK, "\n  demo ", ""},
		{"help demo", exitOK, "Usage: election demo", ""},
		{"demo --help", exitOK, "--keep", ""},
		{"demo -h", exitOK, "--keep", ""},
		{"demo --nonsense", exitUsage, "", "election demo: flag provided but not defined: -nonsense"},
		{"demo now", exitUsage, "", `unexpected argument "now"`},
		{"demo --break=everything", exitUsage, "", `no part "everything" to break`},
		{"demo --dsn=sqlite:x --dsn-file=y", exitUsage, "", "--dsn and --dsn-file were both given"},
		{"demo --dsn=", exitUsage, "", "--dsn must not be empty"},
		{"demo --dsn-file=", exitUsage, "", "--dsn-file must not be empty"},
		{"demo --dsn", exitUsage, "", "flag needs an argument: -dsn"},
		{"demo mysql://u:geheim@h/d", exitUsage, "", `unexpected argument "mysql://u:***@h/d"`},
		{"demo --dsn=oracle://u:geheim@h/d", exitFailed, "", `--dsn: database "oracle://u:***@h/d": unknown scheme`},
		{"help doctor", exitOK, "Usage: election doctor", ""},
		{"doctor -h", exitOK, "--strict", ""},
		{"doctor", exitUsage, "", "no database is named"},
		{"doctor --timeout=0s --dsn=sqlite:x", exitUsage, "", "--timeout must be positive"},
		{"doctor --dsn=sqlite:x --dsn-file=y", exitUsage, "", "--dsn and --dsn-file were both given"},
		{"doctor --dsn=oracle://u:geheim@h/d", exitUsage, "", `--dsn: database "oracle://u:***@h/d": unknown scheme`},
		{"doctor --dsn=sqlite:no/such.db", exitUsage, "", "connect to the database"},
		{"doctor --dsn=mysql://u:geheim@127.0.0.1:1/d", exitUsage, "", "connect to the database"},
		{"doctor mysql://u:geheim@h/d", exitUsage, "", `unexpected argument "mysql://u:***@h/d"`},
		{"help version", exitOK, "Usage: election version", ""},
		{"version", exitOK, "election ", ""},
		{"version now", exitUsage, "", "Usage: election version"},
		{"nonsense", exitUsage, "", `unknown command "nonsense"`},
		{"help nonsense", exitUsage, "", `unknown command "nonsense"`},
	} {
		var out, stderr strings.Builder
		if got := run(console{nil, &out, &stderr}, strings.Fields(c.args)); got != c.status {
			t.Errorf("election %s: exit status %d, want %d", c.args, got, c.status)
		}
		for _, stream := range []struct{ name, got, want string }{{"output", out.String(), c.out}, {"error", stderr.String(), c.stderr}} {
			if !strings.Contains(stream.got, stream.want) || stream.want == "" && stream.got != "" {
				t.Errorf("election %s: standard %s is %q, want %q", c.args, stream.name, stream.got, stream.want)
			}
			if strings.Contains(stream.got, "geheim") {
				t.Errorf("election %s: standard %s shows the password", c.args, stream.name)
			}
		}
	}
}

func TestHiddenThingsAreHidden(t *testing.T) {
	for _, args := range []string{"help", "help demo"} {
		var out strings.Builder
		run(console{nil, &out, &out}, strings.Fields(args))
		for _, hidden := range []string{"demo-member", "--break", "-break"} {
			if strings.Contains(out.String(), hidden) {
				t.Errorf("election %s shows %s", args, hidden)
			}
		}
	}
}

func TestVersionOf(t *testing.T) {
	for _, c := range []struct {
		info debug.BuildInfo
		want string
	}{
		{debug.BuildInfo{}, "election (unknown)"},
		{debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.3"}}, "election v1.2.3 go1.26.0"},
		{debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef"}}}, "election (devel) 0123456789ab"},
	} {
		if got := versionOf(&c.info); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

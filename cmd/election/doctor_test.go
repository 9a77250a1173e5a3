package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sqlelect/election/doctor"
	"github.com/sqlelect/election/internal/dbtest"
)

// consult runs the doctor on the database that dsn names in the environment.
func consult(t *testing.T, dsn string, args ...string) (status int, out, stderr string) {
	t.Helper()
	command, temp := program(t, dsn, append([]string{"doctor"}, args...)...)
	out, stderr = watch(t, command, func(string) {})
	checkEmpty(t, temp)
	checkSecret(t, out+stderr)
	return command.ProcessState.ExitCode(), out, stderr
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "service.db")
	if status, _, stderr := consult(t, "sqlite:"+path); status != exitUsage || !strings.Contains(stderr, "connect") {
		t.Errorf("no file: exit status %d: %s", status, stderr)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("it has created the file")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dsn    string
		args   []string
		status int
		out    string
	}{
		{"file:" + path + "?_pragma=busy_timeout(9000)", nil, exitOK, "0 warnings, 0 failures"},
		{"sqlite:" + path, nil, exitOK, "warning: busy timeout"},
		{"sqlite:" + path, []string{"--strict"}, exitFailed, "warning: busy timeout"},
		{"file:" + path + "?_pragma=synchronous(OFF)", []string{"--table=leaders"}, exitFailed, "failure: flush at commit"},
	} {
		status, out, stderr := consult(t, c.dsn, c.args...)
		if status != c.status || !strings.Contains(out, c.out) || (status == exitOK) != (stderr == "") {
			t.Errorf("%s %v: exit status %d, want %d:\n%s%s", c.dsn, c.args, status, c.status, out, stderr)
		}
	}
	if text, err := os.ReadFile(path + "-wal"); err == nil {
		t.Errorf("the journal mode was changed: %d bytes", len(text))
	}
}

func TestDoctorAsJSON(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	dbtest.Exec(t, db.Open(t), "CREATE TABLE x (x INTEGER)")
	status, out, stderr := consult(t, "sqlite:"+db.Path, "--json")
	var report struct {
		Engine, Table string
		Checks        []struct{ Name, Verdict, Seen string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != exitOK || stderr != "" {
		t.Fatalf("exit status %d, error %v:\n%s%s", status, err, out, stderr)
	}
	if report.Engine != "SQLite" || report.Table != "election" || len(report.Checks) < 20 || report.Checks[0].Verdict != "ok" {
		t.Errorf("%+v", report)
	}
}

// On servers, by users with a password: it is shown nowhere, and nothing is left.
func TestDoctorOnServers(t *testing.T) {
	t.Parallel()
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if strings.HasSuffix(db.Name, "-found-rows") {
			t.Skip("a setting of the connection, which the URL does not carry")
		}
		handle := db.Open(t)
		dsn := account(t, db, true)
		checkTables := func() {
			t.Helper()
			if now := tables(t, handle, db); len(now) > 0 {
				t.Errorf("the schema holds %v", now)
			}
		}
		// The tests' servers do not wait for their disk, so it is a failure.
		status, out, stderr := consult(t, dsn)
		if status != exitFailed || !strings.Contains(out, "lock of the guard") || !strings.Contains(stderr, "not fit") {
			t.Errorf("exit status %d:\n%s%s", status, out, stderr)
		}
		checkTables()

		command, _ := program(t, dsn, "doctor", "--timeout=1m")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		interrupt := func() { // in the midst of it
			for ctx.Err() == nil {
				rows, err := handle.QueryContext(ctx, "SELECT 1 FROM information_schema.tables WHERE table_name LIKE 'election_doctor_%'")
				if err != nil {
					return
				}
				found := rows.Next()
				_ = rows.Close()
				if found {
					_ = command.Process.Signal(os.Interrupt)
					return
				}
			}
		}
		out, stderr = watchFrom(t, command, func() { go interrupt() }, func(string) {})
		if status := command.ProcessState.ExitCode(); status != 130 || !strings.Contains(out, "nothing left behind") {
			t.Errorf("exit status %d:\n%s%s", status, out, stderr)
		}
		checkSecret(t, out+stderr)
		checkTables()

		status, out, _ = consult(t, account(t, db, false))
		if status != exitFailed || !strings.Contains(out, "failure: right to CREATE") {
			t.Errorf("no rights: exit status %d:\n%s", status, out)
		}
	})
}

// What drivers and servers say may hold the password.
func TestDoctorRedacts(t *testing.T) {
	t.Parallel()
	const dsn = "postgres://u:geheim@host/db"
	report := redacted(doctor.Report{Checks: []doctor.Check{{Seen: "cannot use " + dsn, Means: "geheim", Do: "change geheim"}}}, dsn)
	c := report.Checks[0]
	if texts := []string{c.Seen, c.Means, c.Do}; slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, "geheim") }) {
		t.Errorf("%q", texts)
	}
}

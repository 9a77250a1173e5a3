package main

import (
	"database/sql"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/sqlelect/election/internal/dbtest"
)

// secret is a password that is told from anything else by its mark, however the
// rest is escaped, and that has what parsers of DSNs stumble over.
const (
	secretMark = "Geheim"
	secret     = secretMark + "/7:@#?%&= (x)"
)

// checkSecret checks that no text shows the password.
func checkSecret(t *testing.T, text string) {
	t.Helper()
	if at := strings.Index(text, secretMark); at >= 0 {
		t.Errorf("the password is in …%s…", text[max(0, at-100):min(len(text), at+100)])
	}
}

var (
	startedLine = regexp.MustCompile(`started ([abc]), process (\d+)`)
	joinedLine  = regexp.MustCompile(`([abc]) has joined`)
)

// onlooker returns what checks, as the demo tells of its processes line by line,
// what anybody can see of them. Linux shows it from some time after their start on.
func onlooker(t *testing.T) (see func(line string)) {
	processes := map[string]string{} // their ids, by member
	return func(line string) {
		if started := startedLine.FindStringSubmatch(line); started != nil {
			processes[started[1]] = started[2]
		}
		joined := joinedLine.FindStringSubmatch(line)
		if joined == nil || runtime.GOOS != "linux" {
			return
		}
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(filepath.Join("/proc", processes[joined[1]], file))
			if err != nil || len(text) == 0 {
				t.Errorf("nothing is known of %s: %v", joined[1], err)
			}
			checkSecret(t, string(text))
		}
	}
}

// checkFiles checks that no file below dir holds the password.
func checkFiles(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		checkSecret(t, string(text))
		return err
	})
	if err != nil || files < 5 { // the stage's log, and each member's with its standard error
		t.Errorf("%d files in %q, error %v", files, dir, err)
	}
}

// account creates a user of the database with the secret as password, and
// returns the DSN for it. It may do anything in the schema, or only read.
func account(t *testing.T, db *dbtest.Database, mayCreate bool) (dsn string) {
	t.Helper()
	handle := db.Open(t)
	name := fmt.Sprintf("demo_%x", rand.Uint64()>>16)
	if !mayCreate {
		name += "_reader"
	}
	var at url.URL
	var create, grant, drop []string
	switch db.Driver {
	case "mysql":
		config, err := mysql.ParseDSN(db.DSN)
		if err != nil || config.Net != "tcp" {
			t.Fatalf("no URL leads to %s, error %v", config.Net, err)
		}
		at = url.URL{Scheme: "mysql", Host: config.Addr, Path: "/" + config.DBName, RawQuery: "loc=Europe/Berlin"}
		create = []string{"CREATE USER " + name + "@'%' IDENTIFIED BY '" + secret + "'"}
		rights := map[bool]string{true: "ALL", false: "SELECT"}[mayCreate]
		grant = []string{"GRANT " + rights + " ON " + config.DBName + ".* TO " + name + "@'%'"}
		drop = []string{"DROP USER " + name + "@'%'"}
	case "pgx":
		parsed, err := url.Parse(db.DSN)
		if err != nil {
			t.Fatal(err)
		}
		at = *parsed
		schema := at.Query().Get("search_path")
		create = []string{"CREATE ROLE " + name + " LOGIN PASSWORD '" + secret + "'"}
		rights := map[bool]string{true: "ALL", false: "USAGE"}[mayCreate]
		grant = []string{"GRANT " + rights + " ON SCHEMA " + schema + " TO " + name}
		drop = []string{"DROP OWNED BY " + name, "DROP ROLE " + name}
	}
	for _, statement := range slices.Concat(create, grant) {
		dbtest.Exec(t, handle, statement)
	}
	t.Cleanup(func() {
		for _, statement := range drop {
			dbtest.Exec(t, handle, statement)
		}
	})
	at.User = url.UserPassword(name, secret)
	return at.String()
}

// tables lists the tables of a schema.
func tables(t *testing.T, handle *sql.DB, db *dbtest.Database) (names []string) {
	t.Helper()
	schema := map[string]string{"mysql": "DATABASE()", "pgx": "current_schema()"}[db.Driver]
	rows, err := handle.Query("SELECT table_name FROM information_schema.tables WHERE table_schema = " + schema + " ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestDemoOnServers(t *testing.T) {
	slow(t)
	dbtest.EachServer(t, func(t *testing.T, db *dbtest.Database) {
		if strings.HasSuffix(db.Name, "-found-rows") {
			t.Skip("a setting of the connection, which the URL does not carry")
		}
		handle := db.Open(t)
		before := []string{"election", "ledger"} // somebody else's
		for _, name := range before {
			dbtest.Exec(t, handle, "CREATE TABLE "+name+" (x INTEGER)")
		}
		checkTables := func(t *testing.T) {
			t.Helper()
			if now := tables(t, handle, db); !slices.Equal(now, before) {
				t.Errorf("the schema holds %v, and held %v", now, before)
			}
		}
		dsn := account(t, db, true)
		t.Run("broken", func(t *testing.T) {
			status, out := play(t, dsn, "--break=guard")
			checkFinds(t, status, out)
			checkTables(t)
		})
		t.Run("interrupted", func(t *testing.T) {
			command, temp := program(t, dsn, "demo")
			checkSecret(t, interrupt(t, command))
			checkEmpty(t, temp)
			checkTables(t)
		})
		t.Run("without rights", func(t *testing.T) {
			status, out := play(t, account(t, db, false))
			if status != exitFailed || !strings.Contains(out, "needs the right to create") ||
				strings.Contains(out, "drop table") {
				t.Errorf("exit status %d:\n%s", status, out)
			}
			checkTables(t)
		})
		t.Run("kept", func(t *testing.T) {
			command, temp := program(t, dsn, "demo", "--keep")
			out, stderr := watch(t, command, onlooker(t))
			checkSecret(t, out+stderr)
			checkHolds(t, command.ProcessState.ExitCode(), out+stderr)
			if dir := keptDir(out); filepath.Dir(dir) != temp {
				t.Errorf("kept %q", dir)
			}
			checkFiles(t, temp)
			checkKept(t, out, handle)
			if now := tables(t, handle, db); len(now) != len(before)+3 {
				t.Errorf("the schema holds %v, and held %v", now, before)
			}
		})
	})
}

// checkKept checks that the tables which the demo says it has left are there.
func checkKept(t *testing.T, out string, handle *sql.DB) {
	t.Helper()
	_, kept, _ := strings.Cut(out, "kept: tables ")
	kept, _, _ = strings.Cut(kept, "\n")
	names := strings.Split(kept, ", ")
	if len(names) != 3 {
		t.Fatalf("kept %q", kept)
	}
	for _, name := range names {
		if dbtest.Count(t, handle, name) == 0 {
			t.Errorf("table %s is empty", name)
		}
	}
}

func TestDemoInFileOfTheUser(t *testing.T) {
	slow(t)
	db := dbtest.SQLite(t)
	handle := db.Open(t)
	dbtest.Exec(t, handle, "CREATE TABLE ledger (x INTEGER)")
	command, temp := program(t, "sqlite:"+db.Path, "demo")
	interrupt(t, command)
	checkEmpty(t, temp)
	if n := dbtest.Count(t, handle, "sqlite_master"); n != 1 {
		t.Errorf("%d tables and indexes are there, and one was", n)
	}
}

package archtest

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// drivers are the import paths that bring a database driver with them.
var drivers = []string{
	"modernc.org/sqlite", "github.com/mattn/go-sqlite3", "github.com/ncruces/go-sqlite3", "github.com/glebarez/",
	"github.com/go-sql-driver/mysql", "github.com/jackc/pgx", "github.com/jackc/pgconn", "github.com/lib/pq",
	"gorm.io/driver/",
}

// ormFiles hold the constructors that pick one of gorm's dialectors; nothing
// else in the library knows gorm's names for databases.
var ormFiles = []string{"orm_storage.go", "orm_sqlite.go", "orm_sqlite_left_out.go", "orm_mysql.go", "orm_mysql_left_out.go"}

// driverUsers may import some drivers besides programs, tests and the kit that
// starts servers for tests.
var driverUsers = []struct {
	where   string // a directory, or a file
	drivers []string
}{
	{"internal/dialect", drivers},                      // error codes, hooks: where databases differ
	{"internal/sqldb", []string{"modernc.org/sqlite"}}, // opens the in-memory database
	{"orm_storage.go", []string{"gorm.io/driver/"}},
	{"orm_sqlite.go", []string{"gorm.io/driver/"}},
	{"orm_mysql.go", []string{"gorm.io/driver/"}},
}

// checkDrivers finds drivers imported by code that users link in.
func checkDrivers(files []*file) []finding {
	var findings []finding
	for _, f := range files {
		if f.test || mayNameEngines(f) && !isLibrary(f) {
			continue
		}
		for _, spec := range f.imports() {
			if isDriver(spec.path, drivers) && !mayImportDriver(f, spec.path) {
				findings = append(findings, f.find(spec.pos,
					"%s must not import the driver %s: users bring their own; what differs between databases belongs to internal/dialect", f.path, spec.path))
			}
		}
	}
	return findings
}

func isDriver(importPath string, drivers []string) bool {
	return slices.ContainsFunc(drivers, func(d string) bool { return matchesPath(importPath, d) })
}

func mayImportDriver(f *file, importPath string) bool {
	for _, user := range driverUsers {
		if (f.path == user.where || isUnder(f.dir, user.where)) && isDriver(importPath, user.drivers) {
			return true
		}
	}
	return false
}

// isLibrary tells what users link in from programs and test kits.
func isLibrary(f *file) bool { return !isProgram(f.dir) && !isUnder(f.dir, "internal/dbtest") }

func mayNameEngines(f *file) bool {
	return f.test || slices.Contains(ormFiles, f.path) || !isLibrary(f) || isUnder(f.dir, "internal/dialect", "internal/sqldb")
}

// engineName recognises a database's name inside a longer word as well.
var engineName = regexp.MustCompile(`(?i:sqlite|mysql|mariadb|postgres|cockroach)|TiDB|\btidb\b|\bpgx\b`)

// checkEngineNames finds databases named in identifiers and strings of code
// that must not tell them apart. Comments may name them.
func checkEngineNames(files []*file) []finding {
	var findings []finding
	for _, f := range files {
		if mayNameEngines(f) {
			continue
		}
		report := func(pos token.Pos, text string) {
			if name := engineName.FindString(text); name != "" {
				findings = append(findings, f.find(pos,
					"%s names the database %q in %s: ask internal/dialect for the fact instead", f.path, name, strings.TrimSpace(text)))
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec: // the rules on imports see to these
				return false
			case *ast.Ident:
				report(n.Pos(), n.Name)
			case *ast.BasicLit:
				if n.Kind == token.STRING {
					report(n.Pos(), n.Value)
				}
			}
			return true
		})
	}
	return findings
}

func TestDrivers(t *testing.T) {
	pgx := `package p; import _ "github.com/jackc/pgx/v5"`
	modernc := `package p; import _ "modernc.org/sqlite"`
	gorm := `package p; import _ "gorm.io/driver/mysql"`
	checkBad(t, checkDrivers, []badSource{
		{"library", map[string]string{"sql_storage.go": pgx}, []string{"sql_storage.go:1: sql_storage.go must not import the driver github.com/jackc/pgx/v5"}},
		{"sibling", map[string]string{"lock/lock.go": modernc}, []string{"must not import the driver modernc.org/sqlite"}},
		{"test kit for users", map[string]string{"storagetest/run.go": modernc}, []string{"must not import"}},
		{"orm in the wrong file", map[string]string{"sql_storage.go": gorm}, []string{"must not import"}},
		{"more than its share", map[string]string{"internal/sqldb/open.go": pgx, "orm_storage.go": modernc},
			[]string{"internal/sqldb/open.go must", "orm_storage.go must"}},
		{"allowed", map[string]string{
			"internal/dialect/codes.go": pgx, "internal/sqldb/memory.go": modernc, "orm_storage.go": gorm,
			"internal/dbtest/server.go": pgx, "cmd/election/main.go": pgx, "examples/a/main.go": modernc,
			"bench/b.go": pgx, "elector_test.go": modernc, "lock/lock_test.go": pgx,
		}, nil},
		{"gorm itself is no driver", map[string]string{"orm_txn.go": `package p; import _ "gorm.io/gorm"`}, nil},
		{"a path that only begins alike", map[string]string{"a.go": `package p; import _ "github.com/lib/pqueue"`}, nil},
	})
}

func TestEngineNames(t *testing.T) {
	checkBad(t, checkEngineNames, []badSource{
		{"string", map[string]string{"sql_storage.go": `package p; var s = d.Name() == "sqlite"`}, []string{`names the database "sqlite"`}},
		{"identifier", map[string]string{"lock/lock.go": `package p; func lockMySQL() {}`}, []string{`"MySQL"`}},
		{"another package's identifier", map[string]string{"lock/lock.go": `package p; var a = dialect.PostgreSQL`}, []string{`"Postgre`}},
		{"raw string", map[string]string{"kv/a.go": "package p; var q = `on TiDB`"}, []string{`"TiDB"`}},
		{"struct tag", map[string]string{"do.go": "package p; type DO struct { A int `mariadb:\"x\"` }"}, []string{`"mariadb"`}},
		{"comments may", map[string]string{"lock/lock.go": "// Package p works on MySQL.\npackage p"}, nil},
		{"import paths are another rule", map[string]string{"a.go": `package p; import _ "modernc.org/sqlite"`}, nil},
		{"words that only look alike", map[string]string{"a.go": `package p; func NewInMemorySQLStorage() { multidb := "rapgxy"; _ = multidb }`}, nil},
		{"allowed", map[string]string{
			"internal/dialect/a.go": `package p; var a = "mysql"`, "internal/sqldb/a.go": `package p; var a = "sqlite"`,
			"internal/dbtest/a.go": `package p; var a = "postgres"`, "orm_storage.go": `package p; var a = "mysql"`,
			"cmd/election/open.go": `package p; var a = "mysql"`, "examples/a/a.go": `package p; var a = "sqlite"`,
			"elector_test.go": `package p; var a = "postgres"`,
		}, nil},
	})
}

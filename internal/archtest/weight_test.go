package archtest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Which engines and drivers a program links with each set of tags, and packages of how many modules (the
// library not counted): README names the tags, and states the price.
func TestWeightOfAProgram(t *testing.T) {
	const (
		gorm, pure, compiled, mysql = "gorm.io/gorm", "modernc.org/sqlite", "github.com/mattn/go-sqlite3", "github.com/go-sql-driver/mysql"
		pgx                         = "github.com/jackc/pgx/v5"
	)
	for _, c := range []struct {
		tags    string
		with    []string
		without []string
		modules int
	}{
		{"", []string{gorm, pure, compiled, mysql, pgx}, nil, 23},
		{"no_gorm", []string{pure, mysql, pgx}, []string{gorm, compiled}, 14},
		{"no_gorm,no_mysql", []string{pure, pgx}, []string{gorm, compiled, mysql}, 12},
		{"no_gorm,no_sqlite", []string{mysql, pgx}, []string{gorm, compiled, pure}, 7},
		{"no_gorm,no_sqlite,no_mysql", []string{pgx}, []string{gorm, compiled, pure, mysql}, 5},
		{"no_sqlite", []string{gorm, mysql, pgx}, []string{compiled, pure}, 14},
		{"no_sqlite,no_mysql", []string{gorm, pgx}, []string{compiled, pure, mysql}, 11},
	} {
		t.Run(c.tags, func(t *testing.T) {
			t.Parallel()
			packages, modules := linked(t, c.tags)
			for _, p := range c.with {
				assert.Contains(t, packages, p)
			}
			for _, p := range c.without {
				assert.NotContains(t, packages, p)
			}
			t.Logf("%d packages of %d modules", len(packages), len(modules))
			assert.Len(t, modules, c.modules)
		})
	}
}

// linked lists the packages that a program with the library links in, and the modules that these are
// of, but for the standard library and the library itself.
func linked(t *testing.T, tags string) (packages, modules []string) {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "-tags", tags, "-f", "{{with .Module}}{{if not .Main}}{{$.ImportPath}} {{.Path}}{{end}}{{end}}", ".")
	list.Dir, list.Env = "../..", append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=1")
	out, err := list.Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		p, m, _ := strings.Cut(strings.TrimSpace(line), " ")
		if p != "" {
			packages, modules = append(packages, p), append(modules, m)
		}
	}
	slices.Sort(modules)
	return packages, slices.Compact(modules)
}

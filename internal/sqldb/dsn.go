package sqldb

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	_ "modernc.org/sqlite" // the driver that sqliteDriver names
)

const sqliteDriver = "sqlite"

// Open opens the database that dsn names, without connecting. A DSN is
//
//	sqlite:path/to/file.db     SQLite, with settings fit for an election
//	file:path/to/file.db?…     SQLite, the same unless the parameters say otherwise
func Open(dsn string) (*sql.DB, error) {
	driverName, source, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("database %q: %w", Redact(dsn), err)
	}
	db, err := sql.Open(driverName, source)
	if err != nil {
		return nil, fmt.Errorf("open database %q: %w", Redact(dsn), err)
	}
	return db, nil
}

// parse returns the driver and the data source for it.
func parse(dsn string) (driverName, source string, err error) {
	scheme, rest, found := strings.Cut(dsn, ":")
	switch {
	case !found:
		return "", "", errors.New("the DSN has no scheme; for an SQLite file write sqlite:path")
	case rest == "":
		return "", "", fmt.Errorf("nothing follows the scheme %s:", scheme)
	case strings.ContainsRune(dsn, 0):
		return "", "", errors.New("the DSN must not contain a NUL byte")
	}
	switch scheme {
	case "sqlite":
		return sqliteDriver, withPragmas(FileDSN(rest)), nil
	case "file":
		return sqliteDriver, withPragmas(dsn), nil
	}
	return "", "", fmt.Errorf("unknown scheme %s:", scheme)
}

// FileDSN is the SQLite URI of the file at path, which may hold any character
// but NUL.
func FileDSN(path string) string {
	path = filepath.ToSlash(path)
	escaped := (&url.URL{Path: path}).EscapedPath()
	if strings.HasPrefix(path, "/") {
		return "file://" + escaped // an empty authority, so that "//x" is not taken for one
	}
	return "file:" + escaped
}

// withPragmas adds what an election wants where source does not say otherwise:
// WAL, so that readers and the writer do not wait for each other; FULL, since
// a commit that a power cut undoes is history lost; and a short wait for locks.
func withPragmas(source string) string {
	lower := strings.ToLower(source)
	for _, p := range []struct{ name, value string }{
		{"busy_timeout", "1000"}, {"journal_mode", "WAL"}, {"synchronous", "FULL"},
	} {
		if strings.Contains(lower, p.name) {
			continue
		}
		separator := "?"
		if strings.Contains(source, "?") {
			separator = "&"
		}
		source += separator + "_pragma=" + p.name + "(" + p.value + ")"
	}
	return source
}

// maxMemoryName keeps names clear of the length at which SQLite cuts them.
const maxMemoryName = 255

// MemoryDSN is the source of the in-memory SQLite database called name. All
// connections of one process to one name share it, for as long as one is open.
//
// It is not "mode=memory&cache=shared": there a blocked write heeds no timeout.
func MemoryDSN(name string) (driverName, source string, err error) {
	switch {
	case name == "":
		return "", "", errors.New("name must not be empty")
	case len(name) > maxMemoryName:
		return "", "", fmt.Errorf("name must be at most %d bytes, has %d", maxMemoryName, len(name))
	case strings.ContainsRune(name, 0):
		return "", "", errors.New("name must not contain a NUL byte")
	case !utf8.ValidString(name):
		return "", "", errors.New("name must be valid UTF-8")
	}
	// The leading slash is what makes SQLite share it.
	return sqliteDriver, "file:/" + url.PathEscape(name) + "?vfs=memdb", nil
}

// Redact hides what may be a password in a DSN of any kind: everything between
// the user name and the last @, and the values of parameters named like one.
// Where it is unsure it hides more.
func Redact(dsn string) string {
	const hidden = "***"
	if at := strings.LastIndexByte(dsn, '@'); at >= 0 {
		start := 0
		if i := strings.Index(dsn, "://"); i >= 0 && i < at {
			start = i + len("://")
		}
		if colon := strings.IndexByte(dsn[start:at], ':'); colon >= 0 {
			dsn = dsn[:start+colon+1] + hidden + dsn[at:]
		}
	}
	end := `[^\s&]*` // of a value: in a URL at the next parameter
	if !strings.Contains(dsn, "?") {
		end = `(?:\\.|[^\s\\])*` // in key=value pairs at unescaped white space
	}
	secret := regexp.MustCompile(`(?is)([a-z_]*(?:pass|pwd|secret|token|auth)[a-z_]*\s*=\s*)` +
		`('(?:\\.|[^'\\])*(?:'|$)|` + end + `)`)
	return secret.ReplaceAllString(dsn, "${1}"+hidden)
}

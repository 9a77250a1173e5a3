package sqldb

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sqlelect/election/internal/dialect"
)

// This package imports the driver of SQLite alone.
const (
	sqliteDriver   = "sqlite"
	mysqlDriver    = "mysql" // github.com/go-sql-driver/mysql
	postgresDriver = "pgx"   // github.com/jackc/pgx/v5/stdlib
)

// Open opens the database that dsn names, without connecting. A DSN is
//
//	sqlite:path/to/file.db                 SQLite, with settings fit for an election; sqlite://path is the same
//	file:path/to/file.db?…                 SQLite, the same unless the parameters say otherwise
//	mysql://user:password@host:port/db?…   MariaDB or MySQL, with parameters of go-sql-driver
//	postgres://user:password@host:port/db?…   PostgreSQL, with parameters of pgx
//
// A host is a name, an IPv4 address, or an IPv6 address in brackets. A server behind a Unix socket
// is named by a parameter instead: mysql://user@/db?socket=/path/of/socket,
// postgres://user@/db?host=/directory/of/socket.
//
// No error shows the secrets of dsn.
func Open(dsn string) (*sql.DB, error) {
	driverName, source, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("database %q: %w", Redact(dsn), err)
	}
	return open(dsn, driverName, source)
}

// OpenAsIs is Open without settings for an election: the connection and the file keep their own. To
// the DSN of an SQLite file it adds only that the file must exist.
func OpenAsIs(dsn string) (*sql.DB, error) {
	driverName, source, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("database %q: %w", Redact(dsn), err)
	}
	if driverName == sqliteDriver {
		if source = dsn; !strings.HasPrefix(dsn, "file:") {
			source = FileDSN(sqlitePath(strings.TrimPrefix(dsn, "sqlite:")))
		}
		if !strings.Contains(source, "mode=") {
			source = withParameter(source, "mode=rw")
		}
	}
	return open(dsn, driverName, source)
}

func open(dsn, driverName, source string) (*sql.DB, error) {
	db, err := sql.Open(driverName, source)
	if err != nil {
		return nil, fmt.Errorf("open database %q: %w", Redact(dsn), RedactError(dsn, err))
	}
	return db, nil
}

// parse returns the driver, and the data source as that driver reads it.
func parse(dsn string) (driverName, source string, err error) {
	scheme, rest, found := strings.Cut(dsn, ":")
	switch {
	case !found:
		return "", "", errors.New("the DSN has no scheme; for an SQLite file write sqlite:path")
	case rest == "":
		return "", "", errors.New("nothing follows the scheme")
	case strings.ContainsRune(dsn, 0):
		return "", "", errors.New("the DSN must not contain a NUL byte")
	}
	switch scheme {
	case "sqlite":
		return sqliteDriver, withPragmas(FileDSN(sqlitePath(rest))), dialect.ErrWithoutSQLite
	case "file":
		return sqliteDriver, withPragmas(dsn), dialect.ErrWithoutSQLite
	case "mysql", "mariadb":
		source, err = mysqlSource(dsn)
		return mysqlDriver, source, err
	case "postgres", "postgresql":
		return postgresDriver, dsn, checkURL(dsn)
	}
	// The error does not name the scheme: in a DSN of another form it could hold the password.
	return "", "", errors.New("unknown scheme; there are sqlite:, file:, mysql: and postgres:")
}

// sqlitePath is the path that follows sqlite:. The DSN may also be written as a URL without a host,
// sqlite://path.
func sqlitePath(rest string) string {
	if path := strings.TrimPrefix(rest, "//"); path != "" {
		return path
	}
	return rest
}

// errURL does not tell which part is wrong: that part could be one of the password.
var errURL = errors.New("not of the form scheme://user:password@host:port/database?name=value; " +
	"in each part, characters with a meaning in URLs are written %xx, such as %40 for @ and %2F for /")

// checkURL returns an error if an @ stands anywhere but behind the user's name and password.
// Parsers differ on such an @: some take a part of the password for the host's name.
func checkURL(dsn string) error {
	_, rest, found := strings.Cut(dsn, "://")
	at := strings.LastIndexByte(rest, '@')
	if end := strings.IndexAny(rest, "/?#"); !found || strings.Count(rest, "@") > 1 || end >= 0 && at > end {
		return errURL
	}
	return nil
}

// mysqlSource rewrites a URL in the driver's own form, which escapes nothing before the database's
// name.
func mysqlSource(dsn string) (string, error) {
	u, err := url.Parse(dsn)
	if checkURL(dsn) != nil || err != nil || u.Fragment != "" {
		return "", errURL
	}
	database := strings.TrimPrefix(u.Path, "/")
	user := u.User.Username()
	switch {
	case database == "":
		return "", errors.New("the DSN names no database: write mysql://host/database")
	case strings.ContainsRune(user, ':'):
		return "", errors.New("the driver takes no user name with a colon")
	}
	password, _ := u.User.Password()
	address, query, err := mysqlAddress(u)
	if err != nil {
		return "", err
	}
	return user + ":" + password + "@" + address + "/" + url.PathEscape(database) +
		"?" + strings.ReplaceAll(query, "/", "%2F"), nil
}

// mysqlAddress returns the address of u's server, as the driver writes it, and the remaining
// parameters of u.
func mysqlAddress(u *url.URL) (address, query string, err error) {
	parameters := strings.Split(u.RawQuery, "&")
	i := slices.IndexFunc(parameters, func(p string) bool { return strings.HasPrefix(p, "socket=") })
	if i < 0 {
		host := u.Host
		if u.Port() == "" && strings.HasSuffix(host, "]") { // the driver would take the last number for the port
			host += ":3306"
		}
		return "tcp(" + host + ")", u.RawQuery, nil
	}
	socket, err := url.QueryUnescape(strings.TrimPrefix(parameters[i], "socket="))
	switch {
	case err != nil || socket == "":
		return "", "", errURL
	case strings.ContainsAny(socket, "@()"):
		return "", "", errors.New("the driver takes no path of a socket with @, ( or )")
	case u.Host != "" && u.Host != "localhost":
		return "", "", errors.New("the DSN names both a host and a socket")
	}
	return "unix(" + socket + ")", strings.Join(slices.Delete(parameters, i, i+1), "&"), nil
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

// withPragmas adds these settings, except for those that source names:
//
//   - busy_timeout 1000: a short wait for locks.
//   - journal_mode WAL: readers and the writer do not wait for each other.
//   - synchronous FULL: a commit that a power cut undoes would be lost history.
func withPragmas(source string) string {
	lower := strings.ToLower(source)
	for _, p := range []struct{ name, value string }{
		{"busy_timeout", "1000"}, {"journal_mode", "WAL"}, {"synchronous", "FULL"},
	} {
		if strings.Contains(lower, p.name) {
			continue
		}
		source = withParameter(source, "_pragma="+p.name+"("+p.value+")")
	}
	return source
}

func withParameter(source, parameter string) string {
	if strings.Contains(source, "?") {
		return source + "&" + parameter
	}
	return source + "?" + parameter
}

// maxMemoryName is below the length at which SQLite cuts names.
const maxMemoryName = 255

// MemoryLeftOut returns the error of a program that is built without databases in memory, else nil.
func MemoryLeftOut() error { return dialect.ErrWithoutSQLite }

// MemoryDSN returns the driver and the data source of the in-memory SQLite database called name.
// All connections of one process to one name share it, for as long as one of them is open.
//
// It does not use "mode=memory&cache=shared": a blocked write would then heed no timeout.
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
	// The leading slash makes SQLite share the database.
	return sqliteDriver, "file:/" + url.PathEscape(name) + "?vfs=memdb", nil
}

// hidden stands for a secret.
const hidden = "***"

// Redact hides what may be a password in a DSN of any kind: everything between the user name and
// the last @, and the values of parameters whose names suggest a secret. If it is unsure, it hides
// more.
func Redact(dsn string) string {
	shown, _ := redact(dsn)
	return shown
}

func redact(dsn string) (shown string, secrets []string) {
	shown = dsn
	if at := strings.LastIndexByte(shown, '@'); at >= 0 {
		start := 0
		if i := strings.Index(shown, "://"); i >= 0 && i < at {
			start = i + len("://")
		}
		if colon := strings.IndexByte(shown[start:at], ':'); colon >= 0 {
			secrets = append(secrets, shown[start+colon+1:at])
			shown = shown[:start+colon+1] + hidden + shown[at:]
		}
	}
	end := `[^\s&]*` // a value in a URL ends at the next parameter
	if !strings.Contains(shown, "?") {
		end = `(?:\\.|[^\s\\])*` // a value in key=value pairs ends at unescaped white space
	}
	secret := regexp.MustCompile(`(?is)([a-z_]*(?:pass|pwd|secret|token|auth)[a-z_]*\s*=\s*)` +
		`('(?:\\.|[^'\\])*(?:'|$)|` + end + `)`)
	for _, match := range secret.FindAllStringSubmatch(shown, -1) {
		secrets = append(secrets, match[2])
	}
	return secret.ReplaceAllString(shown, "${1}"+hidden), secrets
}

// RedactError returns err with a text that hides dsn's secrets: drivers quote what they could not
// use. Err is an error of using dsn. The result wraps it.
func RedactError(dsn string, err error) error {
	if err == nil {
		return nil
	}
	if text := RedactText(dsn, err.Error()); text != err.Error() {
		return redactedError{text, err}
	}
	return err
}

type redactedError struct {
	text string
	err  error
}

func (e redactedError) Error() string { return e.text }

func (e redactedError) Unwrap() error { return e.err }

// RedactText hides dsn's secrets in text, as they stand in dsn and unescaped. If Redact shows the
// same word elsewhere in dsn, for example as the user's name, the word is not hidden.
func RedactText(dsn, text string) string {
	shown, secrets := redact(dsn)
	text = strings.ReplaceAll(text, dsn, shown)
	for _, secret := range secrets {
		forms := []string{secret}
		if path, err := url.PathUnescape(secret); err == nil {
			forms = append(forms, path)
		}
		if query, err := url.QueryUnescape(secret); err == nil {
			forms = append(forms, query)
		}
		for _, form := range forms {
			if !strings.Contains(shown, form) {
				text = strings.ReplaceAll(text, form, hidden)
			}
		}
	}
	return text
}

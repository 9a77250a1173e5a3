package dialect

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestServerOf(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"10.11.19-MariaDB-0+deb12u1":                          "MariaDB",
		"5.5.5-10.6.1-MariaDB":                                "MariaDB",
		"8.0.36-0ubuntu0.22.04.1":                             "MySQL",
		"9.1.0":                                               "MySQL",
		"PostgreSQL 15.18 (Debian 15.18-1) on x86_64":         "PostgreSQL",
		"8.0.11-TiDB-v8.4.0":                                  "",
		"8.0.30-Vitess":                                       "",
		"CockroachDB CCL v24.1.0 (x86_64)":                    "",
		"PostgreSQL 11.2-YB-2.20.1.0-b0 on x86_64":            "",
		"PostgreSQL 8.0.2 on i686, compiled by X, Redshift 1": "",
		"3.45.1": "",
		"":       "",
	} {
		got := ""
		if d := serverOf(version); d != nil {
			got = d.Name
		}
		assert.Equal(t, want, got, version)
	}
}

func TestServerIdentifiers(t *testing.T) {
	t.Parallel()
	for _, d := range []*Dialect{MySQL(), MariaDB(), Galera()} {
		assert.Equal(t, "`a``b`", d.Quote("a`b"))
		require.NoError(t, d.CheckIdentifier(strings.Repeat("ü", 64)))
		for _, bad := range []string{"", "a ", "🦁", "a\x00b", "\xff", strings.Repeat("ü", 65), strings.Repeat("n", 65)} {
			require.Error(t, d.CheckIdentifier(bad), "%q", bad)
		}
	}
	d := PostgreSQL()
	require.NoError(t, d.CheckIdentifier(strings.Repeat("n", 63)))
	require.Error(t, d.CheckIdentifier(strings.Repeat("ü", 32)), "bytes count")
	assert.Equal(t, "a = $1 AND b = $2", d.Rebind("a = ? AND b = ?"))
}

func TestClassifyServerCodes(t *testing.T) {
	t.Parallel()
	for class, numbers := range map[Class][]uint16{
		Conflict: {1062}, Retry: {1213, 1205, 1020, 3572, 3101, 1040, 1203, 1226}, Ambiguous: {1180, 1053, 1927, 1317, 2006, 2013},
		Elsewhere: {1290, 1836, 1792, 1047}, Fatal: {1146, 1054, 1142, 1044, 1045, 1064, 1235}, Unknown: {65000},
	} {
		for _, n := range numbers {
			assert.Equal(t, class, Classify(fmt.Errorf("wrapped: %w", &mysql.MySQLError{Number: n})), n)
		}
	}
	for class, codes := range map[Class][]string{
		Conflict: {"23505"}, Retry: {"40001", "40P01", "55P03", "57P03", "53300"}, Cut: {"57014", "25P03"},
		Ambiguous: {"57P01", "57P02", "57P04", "57P05", "25P04", "40003", "08006", "08P01"}, Elsewhere: {"25006"}, Stale: {"0A000"},
		Fatal: {"42P01", "42501", "42601", "25P02", "23502"}, Unknown: {"", "X", "XX000"},
	} {
		for _, code := range codes {
			assert.Equal(t, class, Classify(fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})), code)
		}
	}
	assert.Equal(t, Ambiguous, Classify(mysql.ErrInvalidConn))
	both := errors.Join(mysql.ErrInvalidConn, &pgconn.PgError{Code: "40001"})
	assert.Equal(t, Retry, Classify(both), "what the server said counts more than how the call ended")
}

func TestRolledBackOnServers(t *testing.T) {
	t.Parallel()
	for _, n := range []uint16{1213, 3101, 1290, 1836} {
		assert.True(t, MariaDB().RolledBack(&mysql.MySQLError{Number: n}))
	}
	for _, err := range []error{&mysql.MySQLError{Number: 1180}, &mysql.MySQLError{Number: 1205}, mysql.ErrInvalidConn, nil} {
		assert.False(t, MariaDB().RolledBack(err), "%v", err)
	}
	for _, code := range []string{"40001", "40P01", "25P02", "23505", "P0001", "22012", "42501", "57014", "XX000"} {
		assert.True(t, PostgreSQL().RolledBack(&pgconn.PgError{Code: code, SeverityUnlocalized: "ERROR", Severity: "FEHLER"}), code)
	}
	assert.True(t, PostgreSQL().RolledBack(&pgconn.PgError{Code: "25P03", SeverityUnlocalized: "FATAL"}))
	assert.True(t, PostgreSQL().RolledBack(fmt.Errorf("wrapped: %w", pgx.ErrTxCommitRollback)))
	for _, e := range []pgconn.PgError{
		{Code: "40003", SeverityUnlocalized: "ERROR"},
		{Code: "08006", SeverityUnlocalized: "ERROR"},
		{Code: "57P01", SeverityUnlocalized: "FATAL"},
		{Code: "25P04", SeverityUnlocalized: "FATAL"},
		{Code: "53100", SeverityUnlocalized: "PANIC"},
		{Code: "XX000"}, {SeverityUnlocalized: "ERROR"},
	} {
		assert.False(t, PostgreSQL().RolledBack(&e), "%v", e)
	}
}

// coded is an error of a driver that tells only its code.
type coded string

func (c coded) Error() string    { return string(c) }
func (c coded) SQLState() string { return string(c) }

// Drivers other than pgx tell the code, but may tell the severity in another language.
func TestErrorsOfOtherDrivers(t *testing.T) {
	t.Parallel()
	assert.Equal(t, Retry, Classify(fmt.Errorf("wrapped: %w", coded("40001"))))
	assert.Equal(t, Elsewhere, Classify(coded("25006")))
	for _, c := range []coded{"P0001", "23505", "40001", "57014", "25P03"} {
		assert.True(t, PostgreSQL().RolledBack(c), c)
	}
	for _, c := range []coded{"40003", "08006", "57P01", "25P04", "53100", "58030", "XX000", ""} {
		assert.False(t, PostgreSQL().RolledBack(c), c)
	}
}

// An ID stays a value, whatever bytes it holds.
func TestLiterals(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "id = 2 AND a = x'27203f' AND v = 7",
		inline("id = ? AND a = ? AND v = ?", []any{2, "' ?", int64(7)}, mysqlLiteral))
	assert.Equal(t, "a = convert_from(decode('27', 'hex'), pg_client_encoding())", inline("a = ?", []any{"'"}, postgresLiteral))
}

package sqldb

import (
	"net/url"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The driver reads from its own form what the URL says.
func TestMySQLSource(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"x", "/", "@", "?", "#", "%", "%2F", "a&b=c", "(", ")", "tcp(h)/", " ", "ä", "+", `"'\`} {
		for _, host := range []string{"host:3307", "[::1]:3307"} {
			database := strings.ReplaceAll(part, "@", "") // package url does not escape it
			at := url.URL{Scheme: "mysql", User: url.UserPassword("u"+part, part+":"+part), Host: host, Path: "/d" + database,
				RawQuery: "loc=Europe/Berlin&charset=utf8mb4,utf8&time_zone=%27%2B00%3A00%27"}
			source, err := mysqlSource(at.String())
			require.NoError(t, err, at.String())
			config, err := mysql.ParseDSN(source)
			require.NoError(t, err, source)
			assert.Equal(t, "u"+part, config.User)
			assert.Equal(t, part+":"+part, config.Passwd)
			assert.Equal(t, "tcp", config.Net)
			assert.Equal(t, host, config.Addr)
			assert.Equal(t, "d"+database, config.DBName)
			assert.Equal(t, "Europe/Berlin", config.Loc.String())
			assert.Equal(t, "'+00:00'", config.Params["time_zone"])
		}
	}
	for dsn, want := range map[string][]string{
		"mysql://host/db":        {"", "", "tcp", "host:3306", "db"},
		"mysql://u@[fe80::1]/db": {"u", "", "tcp", "[fe80::1]:3306", "db"},
		"mysql://u:p@/db?timeout=1s&socket=/run/a%20b/x.sock": {"u", "p", "unix", "/run/a b/x.sock", "db"},
		"mysql://localhost/db?socket=%2Frun%2Fx.sock":         {"", "", "unix", "/run/x.sock", "db"},
	} {
		source, err := mysqlSource(dsn)
		require.NoError(t, err, dsn)
		config, err := mysql.ParseDSN(source)
		require.NoError(t, err, source)
		assert.Equal(t, want, []string{config.User, config.Passwd, config.Net, config.Addr, config.DBName})
		assert.Empty(t, config.Params, "the server would take what is left for its own settings")
	}
	for _, dsn := range []string{"mysql://host/db?socket=/x", "mysql:///db?socket=", "mysql:///db?socket=%zz", "mysql:///db?socket=/a)b"} {
		_, err := mysqlSource(dsn)
		require.Error(t, err, dsn)
	}
}

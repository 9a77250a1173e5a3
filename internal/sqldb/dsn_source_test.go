package sqldb

import (
	"net/url"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The driver reads out of its own form what the URL says.
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
	source, err := mysqlSource("mysql://host/db")
	require.NoError(t, err)
	config, err := mysql.ParseDSN(source)
	require.NoError(t, err)
	assert.Equal(t, []string{"", "", "host:3306", "db"}, []string{config.User, config.Passwd, config.Addr, config.DBName})
}

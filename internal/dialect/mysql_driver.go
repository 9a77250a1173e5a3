//go:build !no_mysql

package dialect

import (
	"errors"

	"github.com/go-sql-driver/mysql"
)

// errWithoutMySQL is not nil in a program that is built without MySQL and MariaDB.
var errWithoutMySQL error

// mysqlNumber returns the number of a server's error.
func mysqlNumber(err error) (number uint16, ok bool) {
	e := (*mysql.MySQLError)(nil)
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.Number, true
}

// mysqlLostConn reports whether the driver has lost a connection during a call.
func mysqlLostConn(err error) bool { return errors.Is(err, mysql.ErrInvalidConn) }

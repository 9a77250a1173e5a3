//go:build no_mysql

package dialect

import "errors"

var errWithoutMySQL = errors.New("this program was built without MySQL and MariaDB (build tag no_mysql)")

func mysqlNumber(error) (number uint16, ok bool) { return 0, false }

func mysqlLostConn(error) bool { return false }

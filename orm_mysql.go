//go:build !no_gorm && !no_mysql

package election

import (
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
)

func mysqlDialector(pool gorm.ConnPool) gorm.Dialector { return mysql.New(mysql.Config{Conn: pool}) }

//go:build !no_gorm && !no_sqlite

package election

import (
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

func sqliteDialector(pool gorm.ConnPool) gorm.Dialector { return sqlite.Dialector{Conn: pool} }

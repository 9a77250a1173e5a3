//go:build !no_gorm && no_mysql

package election

import "gorm.io/gorm"

// mysqlDialector is not called: no storage can be opened on this engine.
func mysqlDialector(gorm.ConnPool) gorm.Dialector { return nil }

//go:build !no_gorm && no_sqlite

package election

import "gorm.io/gorm"

// sqliteDialector is not called: no storage can be opened on this engine.
func sqliteDialector(gorm.ConnPool) gorm.Dialector { return nil }

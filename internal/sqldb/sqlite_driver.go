//go:build !no_sqlite

package sqldb

import _ "modernc.org/sqlite" // the driver that sqliteDriver names

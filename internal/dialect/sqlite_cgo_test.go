//go:build cgo

package dialect

import "github.com/mattn/go-sqlite3"

// cgoBusy is an error of the cgo driver.
var cgoBusy error = sqlite3.Error{Code: sqlite3.ErrBusy}

//go:build cgo

package dialect

import (
	"errors"

	"github.com/mattn/go-sqlite3"
)

// cgoSQLiteCode returns the extended result code of mattn/go-sqlite3's error.
func cgoSQLiteCode(err error) (code int, ok bool) {
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return 0, false
	}
	if e.ExtendedCode != 0 {
		return int(e.ExtendedCode), true
	}
	return int(e.Code), true
}

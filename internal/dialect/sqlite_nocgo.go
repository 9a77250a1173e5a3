//go:build !cgo

package dialect

// cgoSQLiteCode knows no codes: without cgo that driver is a stub.
func cgoSQLiteCode(error) (code int, ok bool) { return 0, false }

//go:build !cgo

package dbtest

import "testing"

func cgoSQLiteDatabases(testing.TB) []*Database { return nil }

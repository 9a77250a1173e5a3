package dialect

import (
	"database/sql/driver"
	"iter"
)

// layers yields a driver connection and, from the outside in, what it wraps.
func layers(dc any) iter.Seq[any] {
	const maxWrappers = 16 // bounds the loop for a wrapper that returns itself
	return func(yield func(any) bool) {
		for range maxWrappers {
			if !yield(dc) {
				return
			}
			switch c := dc.(type) {
			case interface{ Raw() driver.Conn }:
				dc = c.Raw()
			case interface{ Unwrap() driver.Conn }:
				dc = c.Unwrap()
			default:
				return
			}
		}
	}
}

//go:build !linux

package doctor

import "errors"

// openedTimes always returns an error, because it cannot tell on this operating system.
func openedTimes(string) (n int, err error) {
	return 0, errors.New("not known on this operating system")
}

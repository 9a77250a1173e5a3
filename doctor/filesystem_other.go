//go:build !linux

package doctor

import "errors"

// fileSystemOf always returns an error, because it cannot tell on this operating system.
func fileSystemOf(string) (kind string, remote bool, err error) {
	return "", false, errors.New("not known on this operating system")
}

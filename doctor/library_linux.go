package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// openedTimes counts how often this process has the file open, by its descriptors. It opens none:
// closing a descriptor of the database's files would drop the locks that the process has on them.
func openedTimes(path string) (n int, err error) {
	file, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	const descriptors = "/proc/self/fd"
	all, err := os.ReadDir(descriptors)
	if err != nil {
		return 0, fmt.Errorf("list open files: %w", err)
	}
	for _, entry := range all {
		open, err := os.Stat(filepath.Join(descriptors, entry.Name()))
		switch {
		case errors.Is(err, os.ErrNotExist): // closed meanwhile
		case err != nil:
			return 0, fmt.Errorf("look at open files: %w", err)
		// Descriptors that came by another name, such as a symbolic link, count as well.
		case os.SameFile(file, open):
			n++
		}
	}
	return n, nil
}

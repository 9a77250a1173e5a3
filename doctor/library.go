package doctor

import (
	"context"
	"errors"
	"os"

	"github.com/sqlelect/election/internal/dialect"
)

// library looks for another SQLite library in this process. In WAL mode one library opens
// the shared memory of a file once, for all its connections.
func (e *examination) library(context.Context) finding {
	path, _ := dialect.DatabaseFile(e.identity)
	switch n, err := openedTimes(path + "-shm"); {
	case errors.Is(err, os.ErrNotExist):
		return skipped("outside of WAL mode it cannot be told")
	case err != nil:
		return skipped("%v", err)
	case n > 1:
		return failure("this process has %s-shm open %d times", path, n).because(
			"Another SQLite library, or something that reads the file itself, is in this process. When it closes the file, the "+
				"system drops all locks that this process has on it: a guarded transaction is then no longer guarded (G3).",
			"Use one driver for the file in a process, and read or copy the file in another process.")
	default:
		return ok("one, as far as can be seen")
	}
}

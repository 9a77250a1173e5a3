package doctor

import (
	"context"
	"errors"
	"os"

	"github.com/sqlelect/election/internal/dialect"
)

// library looks for a second library in this process that has the database's files open. The locks
// on the files belong to the process, so only a doctor that runs inside the service can find it:
// the process of "election doctor" opens the file through one library.
func (e *examination) library(context.Context) finding {
	path, _ := dialect.DatabaseFile(e.identity)
	opener := e.dialect.Examination.Opener
	switch n, err := openedTimes(path + opener.Suffix); {
	// The file exists only in the journal mode WAL.
	case errors.Is(err, os.ErrNotExist):
		return skipped("there is no %s%s to tell by", path, opener.Suffix)
	case err != nil:
		return skipped("%v", err)
	case n > 1:
		return failure("this process has %s%s open %d times", path, opener.Suffix, n).because(opener.Means, opener.Do)
	default:
		return ok("one, as far as can be seen")
	}
}

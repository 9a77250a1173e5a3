package election

import (
	"context"
	"fmt"

	"github.com/sqlelect/election/internal/sqldb"
)

// Members that come to an empty table all try to create the record, and all but one
// in vain. It shall cost them little, and the one no time: transactions that write
// the same rows only to lose wait for each other on every engine.

// uncreated returns ErrRecordConflict if the record is there, as it is after any Update.
func (e electionRows) uncreated(ctx context.Context, q sqldb.Execer) error {
	r := e.recordRow()
	r.where += " AND version > 0"
	n, err := e.count(ctx, q, r)
	if err == nil && n > 0 {
		err = fmt.Errorf("it was created meanwhile: %w", ErrRecordConflict)
	}
	return err
}

package demo

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/sqldb"
)

// entry is one row of the ledger: who wrote it, and in which term by its own
// knowledge. Entries are comparable.
type entry struct {
	Seq    int64
	Term   uint64
	Member string
}

func (e entry) String() string {
	return fmt.Sprintf("entry %d of %s in term %d", e.Seq, e.Member, e.Term)
}

const createLedger = `CREATE TABLE ledger (
	seq    INTEGER PRIMARY KEY,
	term   INTEGER NOT NULL,
	member TEXT    NOT NULL
)`

// appendEntry takes the next sequence inside tx, so that the order of the
// sequence is the order of the commits.
const appendEntry = `INSERT INTO ledger (seq, term, member)
	SELECT coalesce(max(seq), 0) + 1, ?, ? FROM ledger RETURNING seq`

// appendGuarded writes an entry that can only be committed while member leads in
// the term that ctx carries. The entry says the term that ctx carries, whether
// or not that is still so. A sequence comes back with an error too, if one was
// taken.
func appendGuarded(ctx context.Context, storage *election.SQLStorage, member string) (entry, error) {
	e := entry{Term: termOf(ctx), Member: member}
	err := storage.TxnWithLeaderLock(ctx, member, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, appendEntry, int64(e.Term), member).Scan(&e.Seq)
	})
	return e, err
}

// appendUnguarded is what a program without the guard does: it takes its own
// word for it that it leads.
func appendUnguarded(ctx context.Context, db *sql.DB, member string) (entry, error) {
	e := entry{Term: termOf(ctx), Member: member}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return e, err
	}
	defer tx.Rollback() // without effect after the commit
	if err := tx.QueryRowContext(ctx, appendEntry, int64(e.Term), member).Scan(&e.Seq); err != nil {
		return e, err
	}
	return e, tx.Commit()
}

func termOf(ctx context.Context) uint64 {
	leadership, _ := election.LeadershipFromContext(ctx)
	return leadership.Term
}

// openDatabase opens the run's SQLite file, with commits that are durable once
// they are acknowledged.
func openDatabase(dir string) (*sql.DB, error) {
	return sqldb.Open("sqlite:" + filepath.Join(dir, "demo.db"))
}

// newLedger creates the database file and the ledger, before any member exists.
func newLedger(ctx context.Context, dir string) error {
	db, err := openDatabase(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, createLedger); err != nil {
		return fmt.Errorf("create ledger: %w", err)
	}
	return nil
}

// readLedger returns every entry, by sequence.
func readLedger(dir string) ([]entry, error) {
	db, err := openDatabase(dir)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.Query(`SELECT seq, term, member FROM ledger ORDER BY seq`)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer rows.Close()
	var entries []entry
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.Seq, &e.Term, &e.Member); err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return entries, nil
}

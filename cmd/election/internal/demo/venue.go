package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	_ "github.com/go-sql-driver/mysql" // the drivers that sqldb.Open leaves to the program
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/sqlelect/election/internal/sqldb"
)

// connectTimeout bounds the first use of a database.
const connectTimeout = 10 * time.Second

// venue is where a run takes place: a database, which may belong to somebody
// else, and the run's own tables in it.
type venue struct {
	dsn    string
	prefix string // of the tables' names
}

// ownFile is the venue of a run that was given no database.
func ownFile(dir string) venue { return venue{dsn: "sqlite:" + filepath.Join(dir, "demo.db")} }

// guestIn is the venue in a database that was there before, with names that
// nobody else has.
func guestIn(dsn string) venue {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return venue{dsn, "election_demo_" + hex.EncodeToString(random[:]) + "_"}
}

// own reports whether the database was made for the run.
func (v venue) own() bool { return v.prefix == "" }

func (v venue) String() string { return sqldb.Redact(v.dsn) }

// line is how a member learns of the venue, as the first line on its standard
// input. The arguments and the environment of a process are for more eyes than a
// password should be.
func (v venue) line() string { return fmt.Sprintf("%q %q\n", v.dsn, v.prefix) }

func parseVenue(line string) (v venue, err error) {
	if _, err := fmt.Sscanf(line, "%q %q", &v.dsn, &v.prefix); err != nil || v.dsn == "" {
		return v, errors.New("the first line of standard input names no database")
	}
	return v, nil
}

// open connects to the venue's tables, whether or not they exist.
func (v venue) open(ctx context.Context) (*ledger, error) {
	db, err := sqldb.Open(v.dsn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	l, err := newLedger(ctx, db, v.prefix)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %q: %w", v, v.redact(err)), db.Close())
	}
	return l, nil
}

// redact hides the secrets of the DSN in an error.
func (v venue) redact(err error) error { return sqldb.RedactError(v.dsn, err) }

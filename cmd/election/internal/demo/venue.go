package demo

import (
	"crypto/rand"
	"encoding/hex"
	"path/filepath"

	_ "github.com/go-sql-driver/mysql" // the drivers that sqldb.Open leaves to the program
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/sqlelect/election/internal/arena"
)

// ownFile is the venue of a run that was given no database. The file goes with the run's directory.
func ownFile(dir string) arena.Venue {
	return arena.Venue{DSN: "sqlite:" + filepath.Join(dir, "demo.db")}
}

// guestIn is the venue in a database that was there before, with names that nobody else has: the
// run may drop these tables without looking.
func guestIn(dsn string) arena.Venue {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return arena.Venue{DSN: dsn, Prefix: "election_demo_" + hex.EncodeToString(random[:]) + "_"}
}

// own reports whether the database was made for the run.
func own(v arena.Venue) bool { return v.Prefix == "" }

package arena

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/sqlelect/election/internal/sqldb"
)

// Venue is where a run takes place: a database, and the run's own tables in it.
type Venue struct {
	// Driver and DSN are what sql.Open takes; without a Driver the DSN is a URL, for
	// sqldb.Open. A DSN may hold a password.
	Driver, DSN string
	// Prefix is what the tables' names begin with.
	Prefix string
}

func (v Venue) open() (*sql.DB, error) {
	if v.Driver == "" {
		return sqldb.Open(v.DSN)
	}
	return sql.Open(v.Driver, v.DSN)
}

// String is the DSN without its secrets.
func (v Venue) String() string { return sqldb.Redact(v.DSN) }

// Redact hides the secrets of the DSN in an error.
func (v Venue) Redact(err error) error { return sqldb.RedactError(v.DSN, err) }

// MarshalText writes the venue as three quoted words: a DSN that is not UTF-8 would
// not survive JSON.
func (v Venue) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%q %q %q", v.Driver, v.DSN, v.Prefix), nil
}

// UnmarshalText reads what MarshalText has written.
func (v *Venue) UnmarshalText(text []byte) error {
	if _, err := fmt.Sscanf(string(text), "%q %q %q", &v.Driver, &v.DSN, &v.Prefix); err != nil || v.DSN == "" {
		return errors.New("no database is named")
	}
	return nil
}

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sqlelect/election/internal/sqldb"
)

// dsnVariable is read where no flag names a database.
const dsnVariable = "ELECTION_DSN"

// dsnUsage explains the flags of dsnFlags.
const dsnUsage = `  --dsn DSN        the database, one of
                     mysql://user:password@host:port/database
                     postgres://user:password@host:port/database
                     sqlite:path/to/file.db
                   and for a server behind a Unix socket
                     mysql://user@/database?socket=/path/of/socket
                     postgres://user@/database?host=/directory/of/socket
                   A server's takes parameters of the driver after a question mark,
                   and so does file:path/to/file.db. Everybody
                   on this machine can read it in the process list: a DSN with a
                   password belongs into the variable or a file
  --dsn-file FILE  a file that holds the DSN; - for standard input

Without either flag, the environment variable ELECTION_DSN names the database.
`

// dsnFlags say which database a command works on.
type dsnFlags struct {
	dsn, file optional
}

// optional is the value of a flag that may be absent.
type optional struct {
	value string
	given bool
}

// String and Set make it a flag.Value.
func (o *optional) String() string { return o.value }

func (o *optional) Set(value string) error {
	*o = optional{value, true}
	return nil
}

func (f *dsnFlags) register(flags *flag.FlagSet) {
	flags.Var(&f.dsn, "dsn", "")
	flags.Var(&f.file, "dsn-file", "")
}

// check finds what is wrong with the flags whatever they name.
func (f *dsnFlags) check() error {
	switch {
	case f.dsn.given && f.file.given:
		return errors.New("--dsn and --dsn-file were both given: the database is named once")
	case f.dsn.given && f.dsn.value == "":
		return errors.New("--dsn must not be empty")
	case f.file.given && f.file.value == "":
		return errors.New("--dsn-file must not be empty")
	}
	return nil
}

// read returns the DSN that the flags or else the environment name, "" where
// nobody names any. The environment forgets it, so that no process inherits it.
func (f *dsnFlags) read(stdin io.Reader) (dsn string, err error) {
	variable := os.Getenv(dsnVariable)
	if err := os.Unsetenv(dsnVariable); err != nil {
		return "", err
	}
	var source string
	switch {
	case f.dsn.given:
		source, dsn = "--dsn", f.dsn.value
	case f.file.given:
		source = "--dsn-file " + f.file.value
		dsn, err = readDSN(f.file.value, stdin)
	case variable != "":
		source, dsn = dsnVariable, variable
	default:
		return "", nil
	}
	if err == nil {
		err = checkDSN(dsn)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", source, err)
	}
	return dsn, nil
}

// readDSN reads the one line of a file.
func readDSN(file string, stdin io.Reader) (string, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(stdin)
	} else {
		text, err = os.ReadFile(file)
	}
	dsn := strings.TrimSpace(string(text))
	switch {
	case err != nil:
		return "", err
	case dsn == "":
		return "", errors.New("it holds no DSN")
	case strings.ContainsAny(dsn, "\r\n"):
		return "", errors.New("it holds more than one line")
	}
	return dsn, nil
}

// checkDSN finds mistakes that need no connection.
func checkDSN(dsn string) error {
	db, err := sqldb.Open(dsn)
	if err != nil {
		return err
	}
	return db.Close()
}

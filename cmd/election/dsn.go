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

// dsnVariable is the environment variable that names the database if no flag does. Unlike a flag it
// may hold a password: other users of the machine cannot read it.
const dsnVariable = "ELECTION_DSN"

// dsnUsage explains the flags of dsnFlags.
const dsnUsage = `  --dsn DSN        the database, one of
                     mysql://user:password@host:port/database
                     postgres://user:password@host:port/database
                     sqlite:path/to/file.db
                     file:path/to/file.db?parameters of the SQLite driver
                   and for a server behind a Unix socket
                     mysql://user@/database?socket=/path/of/socket
                     postgres://user@/database?host=/directory/of/socket
                   A server's takes parameters of the driver after a question mark.
                   Everybody on this machine can read it in the process list: a DSN
                   with a password belongs into the variable or a file
  --dsn-file FILE  a file that holds the DSN; - for standard input

Without either flag, the environment variable ELECTION_DSN names the database.
`

// dsnFlags say which database a command works on. The two flags exclude each other. Either one has
// precedence over the environment.
type dsnFlags struct {
	dsn, file optional
}

// optional is the value of a flag that may be absent. An empty value is a mistake to report, and
// not the same as no flag: it may come from a variable of the shell that is not set. Then the
// command must not turn to another database.
type optional struct {
	value string
	given bool
}

// String makes it a flag.Value, with Set.
func (o *optional) String() string { return o.value }

func (o *optional) Set(value string) error {
	*o = optional{value, true}
	return nil
}

func (f *dsnFlags) register(flags *flag.FlagSet) {
	flags.Var(&f.dsn, "dsn", "")
	flags.Var(&f.file, "dsn-file", "")
}

// check finds what is wrong with the flags themselves, before anything is read.
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

// read returns the DSN that the flags or else the environment name, "" if neither names any. The
// environment forgets it, so that no process inherits it, such as a member of the demo. An error
// names the source of the DSN and not its secrets.
func (f *dsnFlags) read(stdin io.Reader) (dsn string, err error) {
	// The variable is unset also if a flag names the database: it may hold a password all the same.
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

// readDSN reads the one line of a file, without the white space around it: most files end with a
// line break. A second line is a mistake, because it is not clear which of the two is meant.
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

// checkDSN finds mistakes that need no connection, so that they are reported with the source of the
// DSN.
func checkDSN(dsn string) error {
	db, err := sqldb.Open(dsn)
	if err != nil {
		return err
	}
	return db.Close()
}

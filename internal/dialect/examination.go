package dialect

import "strings"

// Examination is how an engine is asked about what elections depend on.
type Examination struct {
	// Version names the server's version, as one text.
	Version string
	// Now returns the server's clock in microseconds since 1970, at the moment of
	// the call; "" where it is this machine's.
	Now string
	// Session names the server's session as one text; "" where there are none.
	Session string
	// Pooled is what to do about a pooler that lends sessions by the transaction.
	Pooled string
	// Conditions are what the promises need, and no statement of ours can bring about.
	Conditions []Condition
	// Hung is asked inside a guarded transaction: whether the server would end it if
	// its client said nothing any more. Without a Query where there is no server.
	Hung Condition
	// Opener is about who opens the database's files.
	Opener Opener
}

// Opener is what is bad about a process in which more than one library opens a database's
// files.
type Opener struct {
	Name string // of the check; "" where it makes no difference
	// Suffix, after the database file's name, names a file that one library opens once.
	Suffix    string
	Means, Do string // as in Condition
}

// Condition is a setting or a state of a server, a session or a file.
type Condition struct {
	Name string // what it is about
	// Query returns one row: what is seen, as text, and 1 where that is as it should
	// be, 0 where it is not, NULL where this user cannot see it. No row: the
	// condition does not apply.
	Query string
	// Grave: where it does not hold, no election is possible, or a promise is broken
	// by the crash of one machine. Else it takes more than that, or costs only time.
	Grave bool
	// Means and Do tell what follows where it does not hold, and what helps.
	Means, Do string
}

const (
	hungName  = "hung transactions"
	hungMeans = "A client that has stopped inside a guarded transaction keeps the leader from being changed until its connection ends."
)

// guardTimeout is the library's default, in words: settings below it cut guarded
// transactions short.
const guardTimeout = "10 s, the guard timeout"

// LostSession reports whether err says that what a connection prepared is not in its
// session, or that another's is: so they are lent.
func LostSession(err error) bool {
	const exists, missing, unknownHandler = "42P05", "26000", 1243
	code, _ := postgresCode(err)
	number, _ := mysqlNumber(err)
	return code == exists || code == missing || number == unknownHandler
}

// DatabaseFile is the path in the identity of a database that is a file.
func DatabaseFile(identity string) (path string, ok bool) {
	path, ok = strings.CutPrefix(identity, "sqlite:")
	return path, ok && !strings.HasPrefix(path, ":memory:")
}

package dialect

import "strings"

// Examination holds the queries that ask an engine about what elections depend on.
type Examination struct {
	// Version is a query for the server's version, as one text.
	Version string
	// Now is a query for the server's clock in microseconds since 1970, at the moment of the call.
	// "": the clock is this machine's.
	Now string
	// Session is a query for the server's session, as one text. "": the engine has no sessions.
	Session string
	// Pooled says what to do about a pooler that lends a session for one transaction at a time.
	Pooled string
	// Conditions are needed for the promises, and no statement of the library can bring them about.
	Conditions []Condition
	// Hung is asked inside a guarded transaction: would the server end the transaction if its
	// client fell silent? Without a server its Query is empty.
	Hung Condition
	// Opener is the check for a second library that opens the database's files.
	Opener Opener
}

// Opener describes a check: in one process, only one library may open a database's files.
type Opener struct {
	Name string // of the check; "": the engine needs no such check
	// Suffix, appended to the database file's name, names a file that each library opens once.
	Suffix    string
	Means, Do string // as in Condition
}

// Condition is a setting or a state of a server, a session or a file.
type Condition struct {
	Name string // what it is about
	// Query returns one row of two columns. The first is what is seen, as text. The second is 1 if
	// this is as it should be, 0 if it is not, NULL if this user cannot see it. No row: the
	// condition does not apply.
	Query string
	// Grave: if the condition does not hold, no election is possible, or the crash of one machine
	// breaks a promise. Not grave: breaking a promise takes more than one crash, or only time is
	// lost.
	Grave bool
	// Means says what follows if the condition does not hold. Do says what helps.
	Means, Do string
}

const (
	hungName  = "hung transactions"
	hungMeans = "A client that has stopped inside a guarded transaction keeps the leader from being changed until its connection ends."
)

// guardTimeout is the library's default guard timeout, in words. Settings below it cut guarded
// transactions short.
const guardTimeout = "10 s, the guard timeout"

// LostSession reports whether err shows that sessions are lent out: a statement that the connection
// prepared is missing from its session, or another client's statement is there.
func LostSession(err error) bool {
	const exists, missing, unknownHandler = "42P05", "26000", 1243
	code, _ := postgresCode(err)
	number, _ := mysqlNumber(err)
	return code == exists || code == missing || number == unknownHandler
}

// DatabaseFile returns the path in the identity of a database that is a file. For any other
// identity ok is false.
func DatabaseFile(identity string) (path string, ok bool) {
	path, ok = strings.CutPrefix(identity, "sqlite:")
	return path, ok && !strings.HasPrefix(path, ":memory:")
}

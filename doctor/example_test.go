package doctor_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"

	"github.com/sqlelect/election/doctor"
)

// A service that looks at its database before it takes part in an election. Here
// the database may lose commits.
func ExampleExamine() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := "file:" + filepath.ToSlash(filepath.Join(dir, "service.db"))
	db, err := sql.Open("sqlite", file+"?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		panic(err)
	}
	defer func() { _ = db.Close() }()

	report, err := doctor.Examine(context.Background(), db, doctor.Options{})
	if err != nil {
		panic(err) // the database cannot be reached
	}
	fmt.Println("verdict:", report.Verdict())
	for _, c := range report.Checks {
		if c.Verdict == doctor.Failure {
			fmt.Println(c.Name+":", c.Seen)
			fmt.Println(c.Do)
		}
	}
	// Output:
	// verdict: failure
	// flush at commit: synchronous = 1, journal_mode = wal
	// Add _pragma=synchronous(FULL) to the DSN.
}

package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sync"
	"weak"
)

// SQLite locks a file by POSIX locks, which belong to a process and not to a connection. One SQLite
// library keeps account of the locks of all its connections. Two libraries in one process do not
// see each other's locks. When one of them closes the file, the locks of both are dropped.

// libraryUse says that a handle of this process uses a file through a library.
type libraryUse struct {
	db      weak.Pointer[sql.DB]
	file    os.FileInfo
	library string
}

// libraryUses are the uses of this process. The list is process-wide because the locks are. A use
// ends with its handle: once the handle is closed or collected, the next opening of a storage
// forgets the use.
var libraryUses = struct {
	sync.Mutex
	of []libraryUse
}{}

// admitSQLite returns an error if this process has a storage on the same file through another
// library. It looks at the file by name only: opening and closing the file would drop its locks.
func admitSQLite(ctx context.Context, db *sql.DB, conn *sql.Conn) error {
	identity, err := SQLite().Identity(ctx, conn)
	if err != nil {
		return err
	}
	path, ok := DatabaseFile(identity)
	if !ok {
		return nil
	}
	file, err := os.Stat(path)
	if err != nil {
		return nil // moved or deleted since it was opened: SQLite itself refuses to write
	}
	library, err := sqliteLibrary(conn)
	if err != nil {
		return fmt.Errorf("find out the driver: %w", err)
	}
	libraryUses.Lock()
	defer libraryUses.Unlock()
	libraryUses.of = slices.DeleteFunc(libraryUses.of, func(u libraryUse) bool { return isClosed(u.db.Value()) })
	known := false
	for _, u := range libraryUses.of {
		switch {
		case !os.SameFile(u.file, file):
		case u.library != library:
			return fmt.Errorf("%s is used in this process through %s already, and now through %s: two SQLite libraries "+
				"in one process drop each other's locks on a file; use one, and close the other's handle "+
				"(a driver's wrapper must have a method Raw() driver.Conn or Unwrap() driver.Conn to be told from a library)",
				path, u.library, library)
		case u.db.Value() == db:
			known = true
		}
	}
	if !known {
		libraryUses.of = append(libraryUses.of, libraryUse{weak.Make(db), file, library})
	}
	return nil
}

// isClosed reports whether db is closed, or nil. The ping's ctx is over: an open handle returns its
// error, and a closed one another error.
func isClosed(db *sql.DB) bool {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	return db == nil || !errors.Is(db.PingContext(over), context.Canceled)
}

// sqliteLibrary returns the package of the driver's own connection, below all wrappers.
func sqliteLibrary(conn *sql.Conn) (name string, err error) {
	err = conn.Raw(func(dc any) error {
		for layer := range layers(dc) {
			t := reflect.TypeOf(layer)
			for t.Kind() == reflect.Pointer {
				t = t.Elem()
			}
			name = t.PkgPath()
		}
		return nil
	})
	return name, err
}

package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Statement writes rows of one table: SQL with question marks for its arguments, each an
// int, an int64 or a string, and a % for the quoted table.
type Statement struct {
	Write string // UPDATE or DELETE, without its condition; of an INSERT, what precedes VALUES
	Args  []any  // of Write and Values
	// Values lists what an INSERT writes, without brackets; Existing says what it does where
	// the row exists.
	Values, Existing string
	Where            string // the condition; of an INSERT that has Missed, of the row that it adds
	Rows             []any  // the arguments of Where
	// Missed is the error if it finds no row; nil: it need not find any.
	Missed error
}

// Query is all of the statement, and its arguments.
func (s Statement) Query() (query string, args []any) {
	if s.Values != "" {
		return s.Write + " VALUES (" + s.Values + ") " + s.Existing, s.Args
	}
	return s.Write + " WHERE " + s.Where, append(slices.Clip(s.Args), s.Rows...)
}

// Transaction is a change of leader whose statements are all known before it begins.
type Transaction struct {
	Table, Election string      // Table quoted
	Statements      []Statement // that write rows
}

// Transact runs t on a pinned connection, in one round trip: between BEGIN and COMMIT the
// server waits neither for the client nor for a guarded transaction. So what a client has
// sent that gives up or dies is committed about then or never (a renewal or, at COMMIT, a
// backup may hold it up for a moment); if a guarded transaction is in the way, the error is of class Retry, at once. If
// a statement finds no row, its error Missed is returned. Of all these, and of one that wraps
// errors.ErrUnsupported, as this connection cannot do so, nothing is committed;
// driver.ErrBadConn means that the connection was dead already. What any other
// error says of the outcome is for its class to tell. Afterwards the connection is
// as it was, or closed.
func (d *Dialect) Transact(ctx context.Context, conn *sql.Conn, t Transaction) error {
	return d.transact(ctx, conn, t)
}

// Transacts reports whether Transact can be called.
func (d *Dialect) Transacts() bool { return d.transact != nil }

// transactMariaDB sends one text, as values in a compound statement cannot be parameters.
// Whatever fails, it leaves no transaction open, and it changes no setting: so Prepare
// has nothing to add.
func transactMariaDB(ctx context.Context, conn *sql.Conn, t Transaction) error {
	var body strings.Builder
	var names, needed []string
	found := make([]int64, len(t.Statements))
	dest := make([]any, len(found))
	for i, s := range t.Statements {
		dest[i] = &found[i]
		names = append(names, "election_"+strconv.Itoa(i))
		if s.Missed != nil {
			needed = append(needed, names[i]+" > 0")
		}
		query, args := s.Query()
		query, bounded := strings.CutPrefix(query, "SET STATEMENT ") // it waits for a renewal at most
		if !bounded {
			query = "innodb_lock_wait_timeout=0 FOR " + query
		}
		query = strings.Replace(inline(query, args, mysqlTextLiteral), "%", t.Table, 1)
		body.WriteString("SET STATEMENT lock_wait_timeout=0, " + query + "; SET " + names[i] + " = ROW_COUNT(); ")
	}
	const most = 512 << 10 // servers may take as little as 1 MB, and values are twice as long here
	if body.Len() > most {
		return errors.ErrUnsupported
	}
	all := strings.Join(names, ", ")
	err := conn.QueryRowContext(ctx, "BEGIN NOT ATOMIC DECLARE "+all+" BIGINT;"+
		" DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;"+
		" IF @@character_set_client NOT LIKE 'utf8%' THEN SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1235; END IF;"+ // what is read is converted
		" SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION; "+body.String()+
		"IF "+strings.Join(needed, " AND ")+" THEN COMMIT; ELSE ROLLBACK; END IF; SELECT "+all+"; END").Scan(dest...)
	switch number, _ := mysqlNumber(err); {
	case number == 1064 || number == 1235: // in sql_mode ORACLE this is no statement
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	case err != nil && !errors.Is(err, driver.ErrBadConn): // a handler does not see that it was killed
		return errors.Join(err, restore(conn, false, "ROLLBACK"))
	}
	for i, s := range t.Statements {
		if err == nil && found[i] <= 0 {
			err = s.Missed
		}
	}
	return err
}

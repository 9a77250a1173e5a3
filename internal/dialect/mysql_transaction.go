package dialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

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

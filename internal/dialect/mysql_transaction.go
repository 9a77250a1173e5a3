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

// transactMariaDB sends one text, because a compound statement takes no parameters. Whatever fails,
// it leaves no transaction open. It changes no setting of the session, so it needs no Prepare.
func transactMariaDB(ctx context.Context, conn *sql.Conn, t BatchedChange) error {
	var body strings.Builder
	var names, needed []string
	found := make([]int64, len(t.Statements))
	dest := make([]any, len(found))
	for i, s := range t.Statements {
		dest[i] = &found[i]
		names = append(names, "election_"+strconv.Itoa(i))
		if s.IfNoRow != nil {
			needed = append(needed, names[i]+" > 0")
		}
		query, args := s.Query()
		query, bounded := strings.CutPrefix(query, "SET STATEMENT ") // a statement with a bound of its own keeps it: only a renewal can make it wait
		if !bounded {
			query = "innodb_lock_wait_timeout=0 FOR " + query
		}
		query = strings.Replace(inline(query, args, mysqlTextLiteral), "%", t.Table, 1)
		body.WriteString("SET STATEMENT lock_wait_timeout=0, " + query + "; SET " + names[i] + " = ROW_COUNT(); ")
	}
	const most = 512 << 10 // a server may take no more than 1 MB, and hexadecimal values are twice as long
	if body.Len() > most {
		return errors.ErrUnsupported
	}
	all := strings.Join(names, ", ")
	err := conn.QueryRowContext(ctx, "BEGIN NOT ATOMIC DECLARE "+all+" BIGINT;"+
		" DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;"+
		" IF @@character_set_client NOT LIKE 'utf8%' THEN SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1235; END IF;"+ // reads are converted here, and these literals are not
		" SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION; "+body.String()+
		"IF "+strings.Join(needed, " AND ")+" THEN COMMIT; ELSE ROLLBACK; END IF; SELECT "+all+"; END").Scan(dest...)
	switch number, _ := mysqlNumber(err); {
	case number == 1064 || number == 1235: // in sql_mode ORACLE the server does not know this syntax
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	case err != nil && !errors.Is(err, driver.ErrBadConn): // the handler does not run if the statement is killed
		return errors.Join(err, restore(conn, false, "ROLLBACK"))
	}
	for i, s := range t.Statements {
		if err == nil && found[i] <= 0 {
			err = s.IfNoRow
		}
	}
	return err
}

package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// engines lists one dialect of each family. It asks no database.
func engines() []*Dialect {
	return []*Dialect{SQLite(), MariaDB(), PostgreSQL()}
}

// Detect connects to db and asks which engine it is. It asks by query and not by the driver's type,
// so that it sees through wrapped drivers. It refuses the relatives: engines that speak the
// language of MySQL or PostgreSQL and lock differently. CheckLocks and Look notice relatives that
// hide their name.
func Detect(ctx context.Context, db *sql.DB) (*Dialect, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	defer func() { _ = conn.Close() }() // fails for a broken connection
	return DetectOn(ctx, conn)
}

// DetectOn is Detect on a connection. It asks for VERSION() first, which every server knows. SQLite
// does not know it, but only this process hears of that error. So no error appears in a server's
// log.
func DetectOn(ctx context.Context, conn *sql.Conn) (*Dialect, error) {
	var version, own string
	postgres, err := postgresOn(conn)
	if err != nil {
		return nil, err
	}
	err = conn.QueryRowContext(ctx, "SELECT VERSION()", postgres.Args()...).Scan(&version)
	number, isMySQL := mysqlNumber(err)
	_, isPostgres := postgresCode(err)
	switch {
	case number == mysqlNodeNotReady:
		return nil, fmt.Errorf("%w: %w", errNotPrimary, err)
	case isMySQL || isPostgres:
		return nil, fmt.Errorf("ask the server for its version: %w", explainRefusal(err))
	}
	d := serverOf(version)
	switch {
	case d == nil: // SQLite, even if the program gave it such a function; or an unknown engine
		notSQLite := conn.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&own)
		switch {
		case notSQLite == nil && ErrWithoutSQLite != nil:
			return nil, ErrWithoutSQLite
		case notSQLite == nil:
			return SQLite(), nil
		case err == nil:
			return nil, fmt.Errorf("database engine %q is not supported", version)
		}
		return nil, fmt.Errorf("unknown database engine: %w", errors.Join(notSQLite, err))
	case d.Name == nameMariaDB || d.Name == nameMySQL:
		if errWithoutMySQL != nil {
			return nil, errWithoutMySQL
		}
		return inCluster(ctx, conn, d)
	case d.Name == postgres.Name:
		return postgres, nil
	}
	return d, nil
}

// postgresOn returns the dialect PostgreSQL for conn. By default pgx prepares each statement with
// arguments, which costs one more round trip on each new connection. The field direct says whether
// Args tells pgx not to. Args cannot do so through a wrapper, and need not do so if the DSN already
// says it.
func postgresOn(conn *sql.Conn) (*Dialect, error) {
	d := PostgreSQL()
	return d, conn.Raw(func(dc any) error {
		if c, ok := dc.(interface{ Conn() *pgx.Conn }); ok {
			mode := c.Conn().Config().DefaultQueryExecMode
			d.direct = mode != pgx.QueryExecModeExec && mode != pgx.QueryExecModeSimpleProtocol
		}
		return nil
	})
}

// explainRefusal names the setting that makes a standby refuse every statement, if err is such a
// refusal.
func explainRefusal(err error) error {
	const notSupported = "0A000"
	if code, _ := postgresCode(err); code == notSupported {
		return fmt.Errorf("the session's setting default_transaction_isolation must not be serializable on a standby: %w", err)
	}
	return err
}

// relatives are engines that answer like MySQL or PostgreSQL but lock differently. Each is a word
// in the version that the engine reports.
var relatives = []string{
	"tidb", "vitess", "planetscale", "oceanbase", "singlestore", "memsql", "dolt", "aurora-dsql",
	"cockroach", "-yb-", "yugabyte", "redshift", "greenplum", "materialize", "risingwave", "questdb",
}

var mysqlVersion = regexp.MustCompile(`^[5-9]\.\d+\.\d+`)

// serverOf returns the dialect of the server that reports version, or nil for an unknown server.
func serverOf(version string) *Dialect {
	lower := strings.ToLower(version)
	for _, other := range relatives {
		if strings.Contains(lower, other) {
			return nil
		}
	}
	switch {
	case strings.Contains(lower, "mariadb"):
		return MariaDB()
	case strings.HasPrefix(lower, "postgresql "):
		return PostgreSQL()
	case mysqlVersion.MatchString(lower):
		return MySQL()
	}
	return nil
}

// inCluster asks whether a server of dialect d belongs to a cluster with several primaries. There
// row locks are local to a node: a guarded transaction on one node and a change of leader on
// another could both commit. It returns:
//
//   - Galera on a MariaDB Galera cluster
//   - an error on any other cluster with several primaries
//   - d otherwise
func inCluster(ctx context.Context, q Queryer, d *Dialect) (*Dialect, error) {
	const wsrepOn, singlePrimary = "wsrep_on", "group_replication_single_primary_mode"
	value, err := settings(ctx, q, "VARIABLES", wsrepOn, singlePrimary)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct{ name, setting, alone string }{
		{nameGalera, wsrepOn, "OFF"}, {"multi-primary Group Replication", singlePrimary, "ON"},
	} {
		switch v, known := value[c.setting]; {
		case !known || strings.EqualFold(v, c.alone):
		case c.name == nameGalera && d.Name == nameMariaDB:
			return Galera(), checkNode(ctx, q)
		default:
			return nil, fmt.Errorf("%s is not supported on %s: its row locks do not reach other nodes", c.name, d.Name)
		}
	}
	return d, nil
}

// settings returns values of the server's VARIABLES or STATUS (of says which). The keys are the
// names in lower case. Names that the server does not know are absent.
func settings(ctx context.Context, q Queryer, of string, names ...string) (values map[string]string, err error) {
	ask := "'" + strings.Join(names, "', '") + "'"
	rows, err := q.QueryContext(ctx, "SHOW GLOBAL "+of+" WHERE Variable_name IN ("+ask+")")
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", ask, explainLook(err))
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values = map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		values[strings.ToLower(name)] = value
	}
	return values, rows.Err()
}

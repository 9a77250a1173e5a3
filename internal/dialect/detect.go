package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// engines lists every dialect, for what needs no database to ask.
func engines() []*Dialect {
	return []*Dialect{SQLite(), MariaDB(), PostgreSQL()}
}

// Detect connects and asks db which engine it is, by query and not by the
// driver's type, so that it sees through wrapped drivers. Engines that speak the
// language of another one are refused unless they are known to lock like it.
func Detect(ctx context.Context, db *sql.DB) (*Dialect, error) {
	if err := db.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	var version string
	notSQLite := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version)
	if notSQLite == nil {
		return SQLite(), nil
	}
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		if number, _ := mysqlNumber(err); number == mysqlNodeNotReady {
			return nil, fmt.Errorf("%w: %w", errNotPrimary, err)
		}
		return nil, fmt.Errorf("unknown database engine: %w", errors.Join(notSQLite, err))
	}
	d := serverOf(version)
	if d == nil {
		return nil, fmt.Errorf("database engine %q is not supported", version)
	}
	if d.Name == nameMariaDB || d.Name == nameMySQL {
		return inCluster(ctx, db, d)
	}
	return d, nil
}

// relatives are engines that answer like MySQL or PostgreSQL and lock otherwise.
var relatives = []string{
	"tidb", "vitess", "planetscale", "oceanbase", "singlestore", "memsql", "dolt", "aurora-dsql",
	"cockroach", "-yb-", "yugabyte", "redshift", "greenplum", "materialize", "risingwave", "questdb",
}

var mysqlVersion = regexp.MustCompile(`^[5-9]\.\d+\.\d+`)

// serverOf returns the dialect of the server that calls itself version, nil for
// one that is not known.
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

// inCluster returns the dialect of the server d where it is one of a cluster with
// several primaries: row locks are local to a node there, so that a guarded
// transaction on one node and a change of leader on another could both commit.
func inCluster(ctx context.Context, db *sql.DB, d *Dialect) (*Dialect, error) {
	for _, c := range []struct{ name, setting, alone string }{
		{nameGalera, "wsrep_on", "OFF"},
		{"multi-primary Group Replication", "group_replication_single_primary_mode", "ON"},
	} {
		var name, value string
		err := db.QueryRowContext(ctx, "SHOW GLOBAL VARIABLES LIKE '"+c.setting+"'").Scan(&name, &value)
		switch {
		case errors.Is(err, sql.ErrNoRows) || err == nil && strings.EqualFold(value, c.alone):
		case err != nil:
			return nil, fmt.Errorf("ask for %s: %w", c.setting, err)
		case c.name == nameGalera && d.Name == nameMariaDB:
			return Galera(), checkNode(ctx, db)
		default:
			return nil, fmt.Errorf("%s is not supported on %s: its row locks do not reach other nodes", c.name, d.Name)
		}
	}
	return d, nil
}

package guard

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// What a function returns is its own, also where it tells of another guarded transaction that
// was overdue.
func TestErrorOfAnInnerTransaction(t *testing.T) {
	t.Parallel()
	driver, dsn, err := sqldb.MemoryDSN(t.TempDir())
	require.NoError(t, err)
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	db.SetMaxOpenConns(1)
	_, err = db.Exec("CREATE TABLE owned (id INTEGER PRIMARY KEY, note TEXT)")
	require.NoError(t, err)
	_, err = db.Exec("INSERT INTO owned VALUES (7, '')")
	require.NoError(t, err)
	d := Database{DB: db, Dialect: dialect.SQLite(), Identity: dialect.MemoryIdentity("x")}
	claim := &Claim{Timeout: time.Minute, Condition: func() dialect.Claim {
		return dialect.Claim{Table: "owned", Mark: "note", Where: "id = ?", Args: []any{7}}
	}}
	err = d.Run(t.Context(), claim, func(context.Context, *sql.Tx) error { return errOverdue })
	require.Same(t, errOverdue, err)
	require.NoError(t, d.Run(t.Context(), claim, func(context.Context, *sql.Tx) error { return nil }))
}

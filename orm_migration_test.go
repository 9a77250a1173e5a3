package election_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// definition is all that makes the election table what it is: columns, types, defaults,
// collations and keys.
func definition(t *testing.T, db *sql.DB) string {
	t.Helper()
	query := map[string]string{
		"SQLite": "SELECT name || ': ' || sql FROM sqlite_master WHERE sql IS NOT NULL",
		"PostgreSQL": `SELECT concat_ws(' ', attnum, attname, format_type(atttypid, atttypmod), attnotnull, attcollation, pg_get_expr(adbin, adrelid))
			FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
			WHERE attrelid = 'election'::regclass AND attnum > 0 AND NOT attisdropped
			UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'election'::regclass`,
		"MariaDB": `SELECT CONCAT_WS(' ', ordinal_position, column_name, column_type, collation_name, is_nullable, column_default) FROM information_schema.columns
			WHERE table_schema = DATABASE() AND table_name = 'election'
			UNION ALL SELECT CONCAT_WS(' ', index_name, seq_in_index, column_name, non_unique, sub_part) FROM information_schema.statistics
			WHERE table_schema = DATABASE() AND table_name = 'election'`,
	}
	rows, err := db.Query(query[strings.Replace(engine(t, db), "MySQL", "MariaDB", 1)])
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	var all []string
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		all = append(all, line)
	}
	require.NoError(t, rows.Err())
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// A program may migrate DO with all its other models at each start, before and after
// the table is opened: from then on the table stays what it is, and does what it is for,
// also for IDs that the database's own character set does not have.
func TestAutoMigrateKeepsTheTable(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"open, migrate", "migrate, open, migrate", "migrate, migrate, open, open, migrate, migrate"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
				handle := db.Open(t)
				if db.Engine == "mysql" {
					dbtest.Exec(t, handle, "ALTER DATABASE CHARACTER SET latin1")
				}
				g := openGORM(t, handle)
				var s *election.ORMStorage
				opened := ""
				for step := range strings.SplitSeq(order, ", ") {
					if step == "migrate" {
						require.NoError(t, g.AutoMigrate(&election.DO{}))
					} else {
						var err error
						s, err = election.NewORMStorage(g, "")
						require.NoError(t, err)
					}
					switch {
					case opened != "":
						require.Equal(t, opened, definition(t, handle), step)
					case s != nil:
						opened = definition(t, handle)
					}
				}
				for _, election := range []*election.ORMStorage{s, s.Election("shard")} {
					mustLead(t, election, "лидер-1")
					require.NoError(t, election.TxnWithLeaderLock(t.Context(), "лидер-1", func(*gorm.DB) error { return nil }))
				}
				var leader election.DO
				require.NoError(t, g.Take(&leader, 2).Error)
				assert.Equal(t, election.DO{ID: 2, LeaderID: "лидер-1", Version: 1}, leader)
				assert.Equal(t, 4, dbtest.Count(t, handle, "election"))
			})
		})
	}
}

// A table that AutoMigrate made serves by itself, and is grown in place.
func TestAutoMigratedTableIsGrown(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbtest.Database) {
		g := openGORM(t, db.Open(t))
		require.NoError(t, g.AutoMigrate(&election.DO{}))
		require.NoError(t, g.Create([]*election.DO{
			{ID: 1, LeaderID: "a", Record: &election.Record{LeaderID: "a"}, Version: 5}, {ID: 2, LeaderID: "a", Version: 5},
		}).Error)
		s, err := election.NewORMStorage(g, "")
		require.NoError(t, err)
		r, err := s.Get(t.Context())
		require.NoError(t, err)
		assert.Equal(t, &election.Record{LeaderID: "a", Version: 5, Term: 5}, r)
		mustLead(t, s.Election("shard"), "b")
		require.NoError(t, s.TxnWithLeaderLock(t.Context(), "a", func(*gorm.DB) error { return nil }))
	})
}

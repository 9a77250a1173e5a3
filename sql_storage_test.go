package election_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
)

// rawRow is a row of the table as any program sees it.
type rawRow struct {
	leaderID, record string
	version          int64
}

func readRow(t testing.TB, db *sql.DB, where string) (r rawRow) {
	t.Helper()
	var record sql.NullString
	row := db.QueryRow("SELECT leader_id, record, version FROM election WHERE " + where)
	require.NoError(t, row.Scan(&r.leaderID, &record, &r.version))
	r.record = record.String
	return r
}

// A resignation with nobody else there leaves no old leader behind, in whatever
// column.
func TestTrap01ResignationIsStored(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle := db.Open(t)
		s := kind.must(t, handle)
		mustLead(t, s, "old")
		mustLead(t, s, "")
		require.ErrorIs(t, guarded(t.Context(), s, "old", func(*sql.Tx) error { return nil }), election.ErrNotLeader)

		record, leader := readRow(t, handle, "id = 1"), readRow(t, handle, "id = 2")
		assert.Equal(t, rawRow{"", record.record, 2}, record)
		assert.NotContains(t, record.record, "old")
		assert.Equal(t, rawRow{"", "", 1}, leader, "the leader row: nobody, and the last term")
	})
}

// What stands where: programs of other ages and people read the table.
func TestTableLayout(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle := db.Open(t)
		s := kind.must(t, handle)
		named, err := kind.open(handle, "", "shard")
		require.NoError(t, err)
		require.NoError(t, s.Update(t.Context(), &election.Record{LeaderID: "a", Term: 7}, true))
		require.NoError(t, s.Update(t.Context(), &election.Record{LeaderID: "a", Term: 7, Version: 1}, false))
		require.NoError(t, named.Update(t.Context(), &election.Record{LeaderID: "b", Term: 9}, true))

		assert.Equal(t, rawRow{"a", `{"leader_id":"a","members":null,"term":7}`, 2}, readRow(t, handle, "id = 1 AND election IS NULL AND slot IS NULL"))
		assert.Equal(t, rawRow{"a", "", 7}, readRow(t, handle, "id = 2 AND election IS NULL AND slot IS NULL"))
		assert.Equal(t, rawRow{"b", `{"leader_id":"b","members":null,"term":9}`, 1}, readRow(t, handle, "id >= 100 AND election = 'shard' AND slot = 0"))
		assert.Equal(t, rawRow{"b", "", 9}, readRow(t, handle, "id >= 100 AND election = 'shard' AND slot = 1"))
		assert.Equal(t, 4, dbtest.Count(t, handle, "election"))

		var rows []election.DO
		require.NoError(t, openGORM(t, handle).Order("id").Limit(2).Find(&rows).Error)
		assert.Equal(t, election.DO{ID: 1, LeaderID: "a", Record: &election.Record{LeaderID: "a", Term: 7}, Version: 2}, rows[0])
		assert.Equal(t, uint64(7), rows[1].Version)
	})
}

// A change of leader also writes the guard rows that members with another
// strategy hold on to, of its own election only.
func TestChangeWritesEveryGuardRow(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle := db.Open(t)
		for _, name := range []string{"", "shard"} {
			s, err := kind.open(handle, "", name)
			require.NoError(t, err)
			for slot := 2; slot <= 100; slot += 49 {
				dbtest.Exec(t, handle, fmt.Sprintf("INSERT INTO election (id, leader_id, version, election, slot) VALUES (%d, 'old', 0, '%s', %d)",
					1000+1000*len(name)+slot, name, slot))
			}
			require.NoError(t, s.Update(t.Context(), &election.Record{LeaderID: "a", Term: 5}, true))
			for slot, want := range map[int]rawRow{2: {"a", "", 5}, 51: {"a", "", 5}, 100: {"old", "", 0}} {
				assert.Equal(t, want, readRow(t, handle, fmt.Sprintf("election = '%s' AND slot = %d", name, slot)), "slot %d", slot)
			}
			require.NoError(t, s.Update(t.Context(), &election.Record{LeaderID: "a", Term: 6, Version: 1}, false))
			assert.Equal(t, rawRow{"a", "", 5}, readRow(t, handle, "election = '"+name+"' AND slot = 2"), "a renewal leaves it alone")
		}
	})
}

// Rows that were deleted or changed by hand are noticed.
func TestRowsChangedByHand(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle := db.Open(t)
		for _, c := range []struct {
			name, statement string
			want            election.Record
		}{
			{"RecordRowDeleted", "DELETE FROM election WHERE id = 1", election.Record{Term: 4}},
			{"RecordNull", "UPDATE election SET record = NULL, version = 0 WHERE id = 1", election.Record{Term: 4}},
			{"AllRowsDeleted", "DELETE FROM election", election.Record{}},
			{"LeaderRowDeleted", "DELETE FROM election WHERE id = 2", election.Record{LeaderID: "a", Term: 4, Version: 1, Unguarded: true}},
			{"OtherLeader", "UPDATE election SET leader_id = 'b' WHERE id = 2", election.Record{LeaderID: "a", Term: 4, Version: 1, Unguarded: true}},
			{"OlderTerm", "UPDATE election SET version = 3 WHERE id = 2", election.Record{LeaderID: "a", Term: 4, Version: 1, Unguarded: true}},
			{"NewerTerm", "UPDATE election SET version = 9 WHERE id = 2", election.Record{LeaderID: "a", Term: 9, Version: 1, Unguarded: true}},
		} {
			dbtest.Exec(t, handle, "DROP TABLE IF EXISTS election")
			s := kind.must(t, handle)
			require.NoError(t, s.Update(t.Context(), &election.Record{LeaderID: "a", Term: 4}, true))
			dbtest.Exec(t, handle, c.statement)
			got, err := s.Get(t.Context())
			require.NoError(t, err)
			got.Members = nil
			require.Equal(t, &c.want, got, c.name)
			// The next acquisition puts it right.
			next := &election.Record{LeaderID: "b", Term: got.Term + 1, Version: got.Version}
			require.NoError(t, s.Update(t.Context(), next, true), c.name)
			require.NoError(t, guarded(inTerm(t.Context(), "b", next.Term), s, "b", func(*sql.Tx) error { return nil }), c.name)
			got, err = s.Get(t.Context())
			require.NoError(t, err)
			require.False(t, got.Unguarded, c.name)
		}
	})
}

// Records of members of any age are understood.
func TestTrap13GoldenRecords(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/record_*.json")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3)
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle := db.Open(t)
		for i, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var want election.Record
			require.NoError(t, json.Unmarshal(text, &want), file)
			dbtest.Exec(t, handle, "DROP TABLE IF EXISTS election")
			dbtest.Exec(t, handle, "CREATE TABLE election (id INTEGER PRIMARY KEY, leader_id VARCHAR(255), record TEXT, version BIGINT)")
			dbtest.Exec(t, handle, rebind(db, "INSERT INTO election VALUES (1, ?, ?, ?)"), want.LeaderID, string(text), 40+i)
			want.Version = int64(40 + i)
			if want.Term == 0 { // then the leader row's number stands
				want.Term = 17
			}
			dbtest.Exec(t, handle, rebind(db, "INSERT INTO election VALUES (2, ?, NULL, ?)"), want.LeaderID, int64(want.Term))
			s := kind.must(t, handle)
			got, err := s.Get(t.Context())
			require.NoError(t, err, file)
			require.Equal(t, &want, got, file)
			require.NoError(t, s.Update(t.Context(), got, false), file)
		}
	})
}

// olderMember is a member that knows four columns and rows 1 and 2.
type olderMember struct {
	t  *testing.T
	of *dbtest.Database
	db *sql.DB
}

// takeOver acquires as that member does: one transaction, with the record's
// version as the number of the leader row.
func (m olderMember) takeOver(ctx context.Context, id string) error {
	m.t.Helper()
	tx, err := m.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var version int64
	if err := tx.QueryRowContext(ctx, "SELECT version FROM election WHERE id = 1").Scan(&version); err != nil {
		return err
	}
	record := fmt.Sprintf(`{"leader_id":%q,"members":[{"id":%[1]q,"name":"","address":"","lease_duration":1000000000,"renew_time":"2024-01-01T00:00:00Z"}]}`, id)
	for _, row := range []struct {
		id     int
		record any
	}{{1, record}, {2, nil}} {
		where := ""
		if row.id == 1 {
			where = fmt.Sprintf(" AND version = %d", version)
		}
		result, err := tx.ExecContext(ctx, rebind(m.of, fmt.Sprintf("UPDATE election SET leader_id = ?, record = COALESCE(?, record), version = ? WHERE id = %d", row.id)+where),
			id, row.record, version+1)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return fmt.Errorf("row %d: %d changed, %v", row.id, n, err)
		}
	}
	return tx.Commit()
}

func TestTrap13OlderMember(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle, ctx := db.Open(t), t.Context()
		older := olderMember{t, db, db.Open(t)}
		// It made the table and the rows, and leads.
		dbtest.Exec(t, handle, "CREATE TABLE election (id INTEGER PRIMARY KEY, leader_id VARCHAR(255) NOT NULL, record TEXT, version BIGINT NOT NULL)")
		dbtest.Exec(t, handle, "INSERT INTO election VALUES (1, 'old', '{\"leader_id\":\"old\",\"members\":[]}', 1)")
		dbtest.Exec(t, handle, "INSERT INTO election VALUES (2, 'old', NULL, 1)")
		s := kind.must(t, handle)
		require.NoError(t, guarded(ctx, s, "old", func(*sql.Tx) error { return nil }))
		term := mustLead(t, s, "new")
		require.Equal(t, uint64(2), term)

		named, err := kind.open(handle, "", "shard")
		require.NoError(t, err, "the table was grown in place")
		shardTerm := mustLead(t, named, "new")

		// It takes over while our guarded transaction is open: never both commit.
		dbtest.Exec(t, handle, "CREATE TABLE log (entry VARCHAR(40))")
		var takeOver error
		err = guarded(inTerm(ctx, "new", term), s, "new", func(tx *sql.Tx) error {
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			takeOver = older.takeOver(short, "old")
			return write(tx, "guarded")
		})
		require.False(t, err == nil && takeOver == nil, "both committed")
		require.NoError(t, err)
		require.NoError(t, older.takeOver(ctx, "old"))
		require.ErrorIs(t, guarded(ctx, s, "new", func(*sql.Tx) error { return nil }), election.ErrNotLeader)
		r, err := s.Get(ctx)
		require.NoError(t, err)
		assert.Equal(t, "old", r.LeaderID)
		assert.False(t, r.Unguarded)
		assert.Greater(t, r.Term, term, "the term grows with its acquisition too")
		require.NoError(t, guarded(inTerm(ctx, "old", r.Term), s, "old", func(*sql.Tx) error { return nil }))
		// The other election never noticed.
		require.NoError(t, guarded(inTerm(ctx, "new", shardTerm), named, "new", func(*sql.Tx) error { return nil }))
	})
}

// An update that changes nothing but the version is one, and counts.
func TestTrap17ChangedRows(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		s, ctx := kind.must(t, db.Open(t)), t.Context()
		r := &election.Record{LeaderID: "a", Term: 1}
		for version := range int64(4) {
			r.Version = version
			require.NoError(t, s.Update(ctx, r, version%2 == 0), "equal content, version %d", version)
			require.NoError(t, guarded(ctx, s, "a", func(*sql.Tx) error { return nil }))
			require.NoError(t, guarded(ctx, s, "a", func(*sql.Tx) error { return nil }), "the guard changes nothing twice")
		}
	})
}

func TestTrap23Values(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle, ctx := db.Open(t), t.Context()
		s := kind.must(t, handle)
		long := strings.Repeat("ß", 127) + "x" // 255 bytes
		mustLead(t, s, long)
		require.NoError(t, guarded(ctx, s, long, func(*sql.Tx) error { return nil }))
		for field, r := range map[string]*election.Record{
			"LeaderID must be at most": {LeaderID: long + "x"},
			"LeaderID must be valid":   {LeaderID: "\xff"},
			"LeaderID must not":        {LeaderID: "a\x00"},
			"Version must":             {Version: 1<<63 - 1},
			"Term must":                {Term: 1 << 63},
		} {
			if r.Version == 0 {
				r.Version = 1
			}
			require.ErrorContains(t, s.Update(ctx, r, true), field)
		}
		odd := &election.Record{LeaderID: long, Term: 1, Version: 1, Members: []*election.Member{
			{ID: "a", LeaseDuration: -1}, {ID: "b"}, {ID: long, Name: strings.Repeat("y", 1<<20)},
		}}
		require.NoError(t, s.Update(ctx, odd, false))
		got, err := s.Get(ctx)
		require.NoError(t, err)
		odd.Version = 2
		assert.Equal(t, odd, got)

		for _, garbage := range []string{"garbage", `{"leader_id":`, "[]", `{"leader_id":7}`} {
			dbtest.Exec(t, handle, rebind(db, "UPDATE election SET record = ? WHERE id = 1"), garbage)
			_, err := s.Get(ctx)
			require.ErrorContains(t, err, `table "election"`)
			require.ErrorContains(t, err, "row 1")
			require.Equal(t, garbage, readRow(t, handle, "id = 1").record, "nothing is overwritten")
		}
		dbtest.Exec(t, handle, "UPDATE election SET version = -5 WHERE id = 1")
		_, err = s.Get(ctx)
		require.ErrorContains(t, err, "version -5")
	})
}

func TestInMemoryStorage(t *testing.T) {
	t.Parallel()
	for _, name := range []string{t.Name(), "a b?c=d&e#f%20", "dir/../x", "näme", strings.Repeat("n", 255)} {
		first, err := election.NewInMemorySQLStorage(name, "")
		require.NoError(t, err, name)
		second, err := election.NewInMemorySQLStorage(name, "")
		require.NoError(t, err, name)
		other, err := election.NewInMemorySQLStorage(name[1:]+"y", "")
		require.NoError(t, err, name)
		mustLead(t, first, "a")
		require.NoError(t, first.Close())
		require.NoError(t, first.Close(), "twice")
		_, err = first.Get(t.Context())
		require.Error(t, err)

		r, err := second.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "a", r.LeaderID, "the data live on in %q", name)
		require.NoError(t, second.TxnWithLeaderLock(t.Context(), "a", func(*sql.Tx) error { return nil }))
		r, err = other.Get(t.Context())
		require.NoError(t, err)
		require.Zero(t, r.Version, "another name is another database")
		require.NoError(t, second.Close())
		require.NoError(t, other.Close())

		again, err := election.NewInMemorySQLStorage(name, "")
		require.NoError(t, err)
		r, err = again.Get(t.Context())
		require.NoError(t, err)
		require.Zero(t, r.Version, "the data are gone with the last storage")
		require.NoError(t, again.Close())
	}
	for _, name := range []string{"", "nul\x00", "\xff", strings.Repeat("n", 256)} {
		_, err := election.NewInMemorySQLStorage(name, "")
		require.ErrorContains(t, err, "dbName", name)
	}
	db := dbtest.SQLite(t).Open(t)
	require.NoError(t, openSQL(t, db).Close())
	require.NoError(t, db.Ping(), "Close of a storage on a handle leaves the handle open")
}

// A pool of one connection that a long query holds makes calls fail by their
// ctx, and nothing else.
func TestTrap18PoolOfOne(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		handle := db.OpenSingle(t)
		s := kind.must(t, handle)
		mustLead(t, s, "a")
		long, err := handle.Conn(t.Context())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err = s.Get(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, s.Update(ctx, &election.Record{Version: 1}, false), context.DeadlineExceeded)
		require.ErrorIs(t, guarded(ctx, s, "a", func(*sql.Tx) error { panic("was called") }), context.DeadlineExceeded)
		require.NoError(t, long.Close())
		require.NoError(t, guarded(t.Context(), s, "a", func(*sql.Tx) error { return nil }))
	})
}

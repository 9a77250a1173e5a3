package dialect

// inMemorySQLite is an expression that is true for a database without a file.
const inMemorySQLite = "(SELECT COALESCE(file, '') = '' FROM pragma_database_list WHERE name = 'main')"

// examinationSQLite asks for settings of the connection. Only the journal's mode belongs to the
// file.
func examinationSQLite() Examination {
	return Examination{
		Version: "SELECT sqlite_version()",
		Opener: Opener{
			Name: "SQLite libraries", Suffix: "-shm",
			Means: "Another SQLite library, or something that reads the file itself, is in this process. When it closes the file, the " +
				"system drops all locks that this process has on it: a guarded transaction is then no longer guarded (G3).",
			Do: "Use one driver for the file in a process, and read or copy the file in another process.",
		},
		Conditions: []Condition{
			{
				Name:  "a file",
				Query: "SELECT CASE WHEN " + inMemorySQLite + " THEN 'in memory' ELSE 'a file' END, NOT " + inMemorySQLite,
				Means: "Only this process can take part, and its end is the end of the election's history.",
				Do:    "Elect over a file, unless this is a test.",
			},
			{
				Name:  "write access",
				Query: "SELECT 'query_only = ' || query_only, query_only = 0 FROM pragma_query_only",
				Grave: true,
				Means: "This connection refuses to write: nobody can be elected.",
				Do:    "Take query_only out of the DSN.",
			},
			{
				Name:  "locking mode",
				Query: "SELECT 'locking_mode = ' || locking_mode, locking_mode = 'normal' FROM pragma_locking_mode",
				Grave: true,
				Means: "The first connection that writes keeps the file locked: no other member can take part.",
				Do:    "Take locking_mode out of the DSN.",
			},
			{
				Name:  "journal",
				Query: "SELECT 'journal_mode = ' || journal_mode, journal_mode NOT IN ('off', 'memory') OR " + inMemorySQLite + " FROM pragma_journal_mode",
				Grave: true,
				Means: "A process that dies inside a write leaves the file damaged, and a transaction that fails is not undone.",
				Do:    "Use journal_mode WAL, or DELETE.",
			},
			{
				Name: "flush at commit",
				Query: "SELECT 'synchronous = ' || synchronous || ', journal_mode = ' || journal_mode, " +
					"synchronous > 1 OR synchronous = 1 AND journal_mode <> 'wal' OR " + inMemorySQLite +
					" FROM pragma_synchronous, pragma_journal_mode",
				Grave: true,
				Means: lostAtCrash,
				Do:    "Add _pragma=synchronous(FULL) to the DSN.",
			},
			{
				Name:  "busy timeout",
				Query: "SELECT 'busy_timeout = ' || timeout || ' ms', timeout > 0 OR " + inMemorySQLite + " FROM pragma_busy_timeout",
				Means: "Statements of the program's own fail at once (SQLITE_BUSY) while anybody else writes to the file. The library's wait, whatever it is.",
				Do:    "Add _pragma=busy_timeout(5000) to the DSN, or _busy_timeout=5000 with mattn/go-sqlite3.",
			},
		},
	}
}

package dialect

func examinationPostgres() Examination {
	return Examination{
		Version: "SELECT current_setting('server_version')",
		Now:     "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
		Session: "SELECT pg_backend_pid()::text",
		Pooled: "Let the pooler lend by the session, or connect to the server itself; else add default_query_exec_mode=exec to the DSN, " +
			"so that no statements are prepared, and read docs/databases.md on poolers.",
		Conditions: append(postgresServer(), postgresDurability()...),
		Hung: Condition{
			Name: hungName,
			Query: "SELECT 'idle_in_transaction_session_timeout = ' || setting || ' ms', (setting::bigint > 0)::int " +
				"FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'",
			Means: hungMeans,
			Do:    "Look for what does not let settings of a transaction through: a proxy, a pooler, a wrapped driver.",
		},
	}
}

func postgresServer() []Condition {
	return []Condition{
		{
			Name:  "primary",
			Query: "SELECT 'pg_is_in_recovery = ' || pg_is_in_recovery(), (NOT pg_is_in_recovery())::int",
			Grave: true,
			Means: notPrimary,
			Do:    "Name the primary in the DSN, or every host and target_session_attrs=read-write.",
		},
		{
			Name: "write access",
			Query: "SELECT 'default_transaction_read_only = ' || current_setting('default_transaction_read_only'), " +
				"(current_setting('default_transaction_read_only') = 'off')::int",
			Grave: true,
			Means: "Transactions of this session are read-only unless they say otherwise: nobody can be elected.",
			Do:    "ALTER ROLE or ALTER DATABASE … SET default_transaction_read_only = off, or take it out of the DSN.",
		},
		{
			Name: "session timeouts",
			// Zero means no bound. The library sets its own bounds for a guarded transaction, but
			// keeps lower ones of the session.
			Query: `SELECT string_agg(name || ' = ' || setting || ' ms', ', ' ORDER BY name),
				bool_and(setting::bigint NOT BETWEEN 1 AND 9999)::int FROM pg_settings
				WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')`,
			Means: "The server ends transactions, statements or idle sessions sooner than " + guardTimeout + ": guarded transactions are cut short.",
			Do:    "Raise these settings for the service's role, or keep guarded transactions shorter (WithGuardTimeout).",
		},
	}
}

func postgresDurability() []Condition {
	return []Condition{
		{
			Name:  "flush to disk",
			Query: "SELECT 'fsync = ' || current_setting('fsync'), (current_setting('fsync') = 'on')::int",
			Grave: true,
			Means: lostAtCrash,
			Do:    "Set fsync = on.",
		},
		{
			Name: "flush at commit",
			Query: "SELECT 'synchronous_commit = ' || current_setting('synchronous_commit'), " +
				"(current_setting('synchronous_commit') <> 'off')::int",
			Grave: true,
			Means: lostAtCrash,
			Do:    "Set synchronous_commit = on, for the server, the database, the role and in the DSN.",
		},
		{
			Name:  "whole pages",
			Query: "SELECT 'full_page_writes = ' || current_setting('full_page_writes'), (current_setting('full_page_writes') = 'on')::int",
			Means: tornPages,
			Do:    "Set full_page_writes = on.",
		},
		{
			Name: "standbys",
			// A user without the right to see the state of a standby still sees that the standby is
			// there.
			Query: `SELECT format('%s attached, %s of them synchronous; synchronous_standby_names = %L, synchronous_commit = %s', attached, synchronous,
					current_setting('synchronous_standby_names'), current_setting('synchronous_commit')),
				CASE WHEN attached = 0 THEN 1 WHEN hidden > 0 THEN NULL
					ELSE (synchronous > 0 AND current_setting('synchronous_commit') NOT IN ('off', 'local'))::int END
				FROM (SELECT count(*) AS attached, count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS synchronous,
						count(*) FILTER (WHERE sync_state IS NULL) AS hidden
					FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup') s`,
			Means: lostAtFailover,
			Do: "If a standby may be promoted: name it in synchronous_standby_names, with synchronous_commit = on, " +
				"and promote no other one.",
		},
	}
}

package dialect

const (
	lostAtCrash = "A crash of the machine can undo commits that were acknowledged: history goes back, " +
		"and what a guarded transaction wrote may be gone or stand beside a later reign's (G3)."
	lostAtFailover = "Commits are acknowledged before a standby has them. A failover then undoes some: history goes back, " +
		"and what a guarded transaction wrote may be gone or stand beside a later reign's (G3)."
	tornPages = "A crash of the machine while a page is being written can leave the table unreadable, " +
		"unless the file system writes pages whole."
	notPrimary = "Nobody can be elected on a server that takes no writes, and what it answers may be old."
)

// examinationMySQL is the part that MySQL and MariaDB have in common.
func examinationMySQL() Examination {
	return Examination{
		Version: "SELECT VERSION()",
		Now:     "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
		Session: "SELECT CONCAT(CONNECTION_ID(), '')",
		Pooled:  "Let the proxy keep a client on its session, or connect to the server itself: a guarded transaction needs one.",
		Conditions: []Condition{
			{
				Name:  "primary",
				Query: "SELECT CONCAT('read_only = ', @@global.read_only), CONCAT(@@global.read_only, '') IN ('0', 'OFF')",
				Grave: true,
				Means: notPrimary,
				Do:    "Name the primary in the DSN; if this is it, SET GLOBAL read_only = OFF.",
			},
			{
				Name: "flush at commit",
				Query: "SELECT CONCAT('innodb_flush_log_at_trx_commit = ', @@innodb_flush_log_at_trx_commit), " +
					"@@innodb_flush_log_at_trx_commit IN (1, 3)",
				Grave: true,
				Means: lostAtCrash,
				Do:    "Set innodb_flush_log_at_trx_commit = 1, in the server's configuration too.",
			},
			{
				Name: "flush of the binary log",
				Query: "SELECT CONCAT('log_bin = ', @@log_bin, ', sync_binlog = ', @@sync_binlog), " +
					"@@log_bin = 0 OR @@sync_binlog = 1",
				Grave: true,
				Means: "With a binary log, recovery keeps what that log holds. " + lostAtCrash,
				Do:    "Set sync_binlog = 1, in the server's configuration too.",
			},
			{
				Name:  "whole pages",
				Query: "SELECT CONCAT('innodb_doublewrite = ', @@innodb_doublewrite), CONCAT(@@innodb_doublewrite, '') NOT IN ('0', 'OFF')",
				Means: tornPages,
				Do:    "Set innodb_doublewrite = ON and restart the server.",
			},
		},
	}
}

// examinationOracle is for MySQL. It adds settings that MariaDB can be told with each statement,
// and MySQL cannot.
func examinationOracle() Examination {
	x := examinationMySQL()
	x.Conditions = append(x.Conditions, Condition{
		Name:  "lock wait timeout",
		Query: "SELECT CONCAT('innodb_lock_wait_timeout = ', @@innodb_lock_wait_timeout, ' s'), @@innodb_lock_wait_timeout <= 2",
		Means: "A write whose client has given up waits on for its lock, and is applied when it gets it: as late as this.",
		Do:    "Add innodb_lock_wait_timeout=1 to the DSN's parameters.",
	})
	x.Hung = Condition{
		Name:  hungName,
		Query: "SELECT CONCAT('no bound but wait_timeout = ', @@wait_timeout, ' s'), @@wait_timeout <= 60",
		Means: hungMeans,
		Do:    "Set a low wait_timeout in the DSN, above the time that connections of the pool are idle; keep guarded transactions short.",
	}
	return x
}

// examinationMaria adds what only MariaDB has or reports.
func examinationMaria() Examination {
	x := examinationMySQL()
	x.Conditions = append(x.Conditions,
		Condition{
			Name: "source of the data",
			Query: "SELECT CONCAT('Slaves_running = ', variable_value), variable_value = 0 " +
				"FROM information_schema.global_status WHERE variable_name = 'SLAVES_RUNNING'",
			Means: "This server replicates from another one: if others write there, two histories meet.",
			Do:    "Name the primary in the DSN.",
		},
		Condition{
			Name: "standbys",
			Query: `SELECT CONCAT('Slaves_connected = ', connected, ', Rpl_semi_sync_master_status = ', COALESCE(sync, 'OFF')),
				connected = 0 OR COALESCE(sync, 'OFF') = 'ON'
				FROM (SELECT MAX(CASE variable_name WHEN 'SLAVES_CONNECTED' THEN variable_value END) AS connected,
						MAX(CASE variable_name WHEN 'RPL_SEMI_SYNC_MASTER_STATUS' THEN variable_value END) AS sync
					FROM information_schema.global_status) s`,
			Means: lostAtFailover,
			Do: "If a standby may be promoted: rpl_semi_sync_master_enabled = ON on this server, with a long " +
				"rpl_semi_sync_master_timeout and rpl_semi_sync_master_wait_point = AFTER_SYNC, and rpl_semi_sync_slave_enabled = ON there.",
		},
		Condition{
			Name: "session timeouts",
			// Zero means no bound. The library sets its own bounds for a guarded transaction, but
			// keeps lower ones of the session.
			Query: `SELECT CONCAT('idle_transaction_timeout = ', @@idle_transaction_timeout,
					', idle_write_transaction_timeout = ', @@idle_write_transaction_timeout,
					', max_statement_time = ', @@max_statement_time, ', wait_timeout = ', @@wait_timeout),
				NOT (@@idle_transaction_timeout BETWEEN 1 AND 9 OR @@idle_write_transaction_timeout BETWEEN 1 AND 9
					OR @@max_statement_time > 0 AND @@max_statement_time < 10 OR @@wait_timeout < 10)`,
			Means: "The server ends transactions, statements or idle connections sooner than " + guardTimeout + ": guarded transactions are cut short.",
			Do:    "Raise these settings for the service's user, or keep guarded transactions shorter (WithGuardTimeout).",
		})
	x.Hung = Condition{
		Name:  hungName,
		Query: "SELECT CONCAT('idle_transaction_timeout = ', @@idle_transaction_timeout, ' s'), @@idle_transaction_timeout > 0",
		Means: hungMeans,
		Do:    "Look for what does not let settings of a session through: a proxy, a pooler, a wrapped driver.",
	}
	return x
}

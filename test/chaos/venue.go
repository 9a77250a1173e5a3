//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sqlelect/election/internal/arena"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/internal/dialect"
	"github.com/sqlelect/election/internal/sqldb"
)

// venue is the database of a run: a server or a file.
type venue struct {
	arena.Venue // past all proxies
	engine      string
	server      *dbtest.OwnServer // or nil
	file        *file             // or nil
}

// The engines, as they are named on the command line.
const (
	mysqlEngine    = "mysql"
	postgresEngine = "postgres"
	sqliteEngine   = "sqlite"
)

var allEngines = []string{mysqlEngine, postgresEngine, sqliteEngine}

func openVenue(ctx context.Context, engine, dir string) (*venue, error) {
	if engine == sqliteEngine {
		f, err := newFile(dir)
		if err != nil {
			return nil, err
		}
		return &venue{Venue: arena.Venue{DSN: f.dsn()}, engine: engine, file: f}, nil
	}
	server, err := dbtest.StartServer(engine)
	if err != nil {
		return nil, err
	}
	v := &venue{engine: engine, server: server}
	v.Venue = v.in(server.DSN)
	if err := v.createSchema(ctx); err != nil {
		return nil, errors.Join(err, v.close())
	}
	return v, nil
}

const schema = "election_chaos"

// in names the run's schema, where a connection needs one.
func (v *venue) in(dsn string) arena.Venue {
	if v.engine == mysqlEngine {
		dsn += schema
	}
	return arena.Venue{Driver: v.server.Driver, DSN: dsn}
}

func (v *venue) createSchema(ctx context.Context) error {
	if v.engine != mysqlEngine {
		return nil
	}
	db, err := sql.Open(v.Driver, v.server.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, "CREATE DATABASE "+schema)
	return err
}

// seen returns what a member behind n sees, which is nil before a file.
func (v *venue) seen(n *network) arena.Venue {
	if n == nil {
		return v.Venue
	}
	return v.in(v.server.Behind(n.port()))
}

func (v *venue) close() error {
	if v.server != nil {
		return v.server.Close()
	}
	return v.file.close()
}

// file is an SQLite database that can run out of space.
type file struct {
	path   string
	volume *volume // of its own; nil where none can be mounted
}

// maxPages of 4 KiB are what the file may have, by SQLite's own limit. It holds the
// ledger of ten minutes twice.
const maxPages = 10_000

func newFile(dir string) (*file, error) {
	f := &file{}
	home := filepath.Join(dir, "database")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	f.volume = mountVolume(home)
	f.path = filepath.Join(home, "election.db")
	return f, nil
}

// dsn has the limit in every connection: SQLite does not keep it in the file.
func (f *file) dsn() string {
	return fmt.Sprintf("%s?_pragma=max_page_count(%d)", sqldb.FileDSN(f.path), maxPages)
}

func (f *file) close() error {
	if f.volume == nil {
		return nil
	}
	return f.volume.close()
}

// fillPages fills the file up to its limit, as another table of the same program
// could; free empties that table again.
func fillPages(ctx context.Context, db *sql.DB) (free func(context.Context) error, err error) {
	err = sqldb.Retry(ctx, func() error {
		_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS ballast (content BLOB)")
		return err
	})
	if err != nil {
		return nil, err
	}
	for size := 1 << 20; size >= 1<<10; size /= 4 {
		for {
			_, err := db.ExecContext(ctx, "INSERT INTO ballast VALUES (zeroblob(?))", size)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil && dialect.Classify(err) != dialect.Retry {
				break // full
			}
		}
	}
	return func(ctx context.Context) error {
		return sqldb.Retry(ctx, func() error {
			_, err := db.ExecContext(ctx, "DELETE FROM ballast")
			return err
		})
	}, nil
}

// lock holds the write lock, as another program or a backup could.
func lock(ctx context.Context, db *sql.DB) (unlock func() error, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	err = sqldb.Retry(ctx, func() error {
		_, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE")
		return err
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return errors.Join(err, conn.Close())
	}, nil
}

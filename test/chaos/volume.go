//go:build linux

package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// volume is a small file system in memory, which root can mount.
type volume struct {
	path   string
	keeper *exec.Cmd
	alive  io.Closer // unmounted when this is closed, by us or by our end
}

// A file system of this size holds the database at its limit, and its log.
const volumeScript = `
mount -t tmpfs -o size=128m tmpfs "$1" 2>/dev/null || exit 1
echo mounted
cat >/dev/null
until umount -l "$1"; do sleep 1; done 2>/dev/null
`

// mountVolume returns nil where the system does not let us mount one.
func mountVolume(path string) *volume {
	v := &volume{path: path, keeper: exec.Command("/bin/sh", "-c", volumeScript, "volume", path)}
	v.keeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what interrupts us must not reach it
	stdin, err := v.keeper.StdinPipe()
	if err != nil {
		return nil
	}
	stdout, err := v.keeper.StdoutPipe()
	if err != nil || v.keeper.Start() != nil {
		return nil
	}
	v.alive = stdin
	if !bufio.NewScanner(stdout).Scan() {
		_ = v.close()
		return nil
	}
	return v
}

func (v *volume) close() error { return errors.Join(v.alive.Close(), v.keeper.Wait()) }

// fill leaves no byte free. The log of the database is emptied first: as long as
// there is an old part of it to write over, nobody notices.
func (v *volume) fill(ctx context.Context, db *sql.DB) (free func() error, err error) {
	path := filepath.Join(v.path, "ballast")
	ballast, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	_, _ = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)") // a reader may be in the way
	for block := make([]byte, 1<<20); len(block) > 0; {
		n, err := ballast.Write(block)
		if err != nil && n == 0 {
			block = block[:len(block)/2]
		}
	}
	return func() error { return errors.Join(ballast.Close(), os.Remove(path)) }, nil
}

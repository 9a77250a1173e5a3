//go:build unix

package dbtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// keeper keeps a server alive until it is closed, by us or by our end. What is
// written to it are commands to the watchdog.
type keeper = io.WriteCloser

// watchdog runs a server, stops and starts it as the lines of its standard input
// say, and stops it and removes its directory as soon as that ends: the other end
// of that pipe is in the test binary alone, and the kernel closes it also after a
// panic, a timeout or a SIGKILL, where no clean-up of ours would run. The file
// "ended" and the number of its start tells of a server that is gone, and keeps a
// process id from being used that may be another process's by now.
const watchdog = `
start() {
	number=$1
	( %[2]s &
	echo $! >pid$number; wait $!; : >ended$number ) >>log 2>&1 </dev/null &
}
end() {
	until [ -e ended$number ] || kill -"$1" "$(cat pid$number)"; do sleep 1; done 2>/dev/null
}
if { %[1]s
} >log 2>&1 </dev/null; then
	start 1
else
	number=1
	: >ended1
fi
while read -r command argument; do
	case $command in
	start|end) "$command" "$argument" ;;
	esac
done
end %[3]s
wait
dir=$PWD; cd / && rm -rf "$dir"
`

// launch starts the server in a directory of its own. It does not wait for it.
func (p program) launch(port int) (dir string, alive keeper, err error) {
	parent, credential, err := p.room()
	if err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp(parent, "election-"+p.name+"-"); err != nil {
		return "", nil, err
	}
	for name, text := range p.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", nil, err
		}
	}
	if credential != nil {
		if err := os.Chown(dir, int(credential.Uid), int(credential.Gid)); err != nil {
			return "", nil, err
		}
	}
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf(watchdog, p.prepare, p.serve, p.stop))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+dir, "TMPDIR="+dir, "PWD="+dir, "PORT="+strconv.Itoa(port))
	// A group of its own: what interrupts the tests must not reach the watchdog.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential}
	if alive, err = cmd.StdinPipe(); err != nil {
		return "", nil, err
	}
	return dir, alive, cmd.Start()
}

// room returns where the server's directory can be, and whom it runs as: not as
// root, which PostgreSQL refuses.
func (p program) room() (parent string, credential *syscall.Credential, err error) {
	if os.Geteuid() != 0 {
		return os.TempDir(), nil, nil
	}
	for _, name := range []string{p.account, "nobody"} {
		if account, lookupErr := user.Lookup(name); lookupErr == nil {
			credential, err = credentialOf(account)
			break
		}
	}
	if credential == nil || err != nil {
		return "", nil, errors.Join(fmt.Errorf("no user %s or nobody to run it as", p.account), err)
	}
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if openToAll(parent) {
			return parent, credential, nil
		}
	}
	return "", nil, errors.New("no temporary directory that other users can enter")
}

func credentialOf(account *user.User) (*syscall.Credential, error) {
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// openToAll reports whether every user can enter dir.
func openToAll(dir string) bool {
	dir, err := filepath.Abs(dir)
	for err == nil {
		info, statErr := os.Stat(dir)
		if statErr != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
	return false
}

// signal sends a signal by its name to the server, unless that has ended: then its
// process id may be another process's.
func (s *server) signal(name string) error {
	if s.hasEnded() {
		return errEnded
	}
	pid, err := os.ReadFile(filepath.Join(s.dir, "pid"+strconv.Itoa(s.starts)))
	if err != nil {
		return err
	}
	return exec.Command("kill", "-"+name, strings.TrimSpace(string(pid))).Run()
}

// findFile returns the path of the file of that name in one of the directories.
func findFile(dirs []string, name string) (string, bool) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, true
		}
	}
	return "", false
}

// find returns the path of the first program that is there, on PATH or in one
// of the directories.
func find(dirs []string, names ...string) (string, bool) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
		for _, dir := range dirs {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
				return path, true
			}
		}
	}
	return "", false
}

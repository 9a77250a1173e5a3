//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// what names the happening that a line of a log tells of.
type what string

// What members write down.
const (
	joined    what = "joined"    // first renewal acknowledged
	entered   what = "entered"   // the leader callback started
	exited    what = "exited"    // the leader callback is about to return
	began     what = "began"     // an attempt to append an entry
	committed what = "committed" // the attempt's outcome: the entry is in the ledger
	refused   what = "refused"   // … the guard turned it down
	unknown   what = "unknown"   // … COMMIT was sent and failed
	failed    what = "failed"    // … it was not written, for another reason
	stalled   what = "stalled"   // the process did not run For, up to now
	asked     what = "asked"     // a resignation or transfer that it was told to do is done
	troubled  what = "troubled"  // the elector reports an error
	left      what = "left"      // RunElection has returned, and all attempts have
)

// What the stage writes down.
const (
	clocks    what = "clocks"    // Wall, at the moment of this line
	started   what = "started"   // a process
	killed    what = "killed"    // with SIGKILL; it has ended
	stopped   what = "stopped"   // with SIGSTOP
	continued what = "continued" // with SIGCONT
	struck    what = "struck"    // a fault began
	healed    what = "healed"    // it is over, as far as the stage can tell
	went      what = "went"      // the election went on: an entry was committed after all faults were healed
	stuck     what = "stuck"     // it did not
	deserted  what = "deserted"  // a process ended, or did not end, other than it should
)

// line is one line of a log.
type line struct {
	At     int64  `json:"at"` // boot clock, nanoseconds
	What   what   `json:"what"`
	Member string `json:"member,omitempty"`
	Life   int    `json:"life,omitempty"` // 1 for a member's first process, 2 after a restart
	Term   uint64 `json:"term,omitempty"`
	Token  string `json:"token,omitempty"` // of an attempt
	For    int64  `json:"for,omitempty"`   // nanoseconds
	Wall   int64  `json:"wall,omitempty"`  // Unix nanoseconds
	Fault  kind   `json:"fault,omitempty"`
	Err    string `json:"err,omitempty"`
}

// life is one process of one member.
type life struct {
	member string
	number int
}

func (l line) life() life { return life{l.Member, l.Life} }

func (l life) String() string { return fmt.Sprintf("%s-%d", l.member, l.number) }

// bootClock counts the machine's sleep as well, and ignores steps of the wall clock.
func bootClock() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(err) // every Linux has it
	}
	return now.Nano()
}

// journal appends lines to a log. Each goes out in one write, so that a process
// that is killed loses nothing it has written down.
type journal struct {
	mu  sync.Mutex
	out io.Writer
}

// write stamps l and appends it. A log that cannot be written makes the whole run
// worthless.
func (j *journal) write(l line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l.At = bootClock()
	text, err := json.Marshal(l)
	if err == nil {
		_, err = j.out.Write(append(text, '\n'))
	}
	if err != nil {
		panic(fmt.Errorf("write log: %w", err))
	}
}

const (
	stageLog  = "stage.log"
	memberLog = "member-%s.log" // of a life
)

// readLogs returns the lines of the stage and those of the members, each log's in
// order. A log may end within a line if its process was killed.
func readLogs(dir string) (stage, members []line, err error) {
	if stage, err = readLog(filepath.Join(dir, stageLog)); err != nil {
		return nil, nil, err
	}
	logs, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf(memberLog, "*")))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range logs {
		lines, err := readLog(path)
		if err != nil {
			return nil, nil, err
		}
		members = append(members, lines...)
	}
	return stage, members, nil
}

func readLog(path string) (lines []line, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	for number := 1; ; number++ {
		row, rest, whole := bytes.Cut(text, []byte{'\n'})
		if !whole {
			return lines, nil
		}
		var l line
		if err := json.Unmarshal(row, &l); err != nil {
			return nil, fmt.Errorf("read log %s, line %d: %w", filepath.Base(path), number, err)
		}
		lines = append(lines, l)
		text = rest
	}
}

package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// what names the happening that a line of a log tells of.
type what string

// What members write down.
const (
	joined    what = "joined"    // first renewal acknowledged
	entered   what = "entered"   // the leader callback started
	exited    what = "exited"    // the leader callback is about to return
	committed what = "committed" // an entry is in the ledger
	refused   what = "refused"   // the guard turned an entry down
	maybe     what = "maybe"     // COMMIT was sent and failed: the entry may be there
	failed    what = "failed"    // an entry was not written, for another reason
	troubled  what = "troubled"  // the elector reports an error
)

// What the stage writes down: what it did to a member, each with the term in
// which that member led.
const (
	resigned    what = "resigned"
	transferred what = "transferred"
	killed      what = "killed"
	frozen      what = "frozen"
	thawed      what = "thawed"
	unfreezable what = "unfreezable" // this system cannot stop a process
)

// line is one line of a log.
type line struct {
	At     int64  `json:"at"` // wall clock, Unix nanoseconds
	What   what   `json:"what"`
	Member string `json:"member,omitempty"`
	Run    int    `json:"run,omitempty"` // 1 for a member's first process, 2 after a restart
	Term   uint64 `json:"term,omitempty"`
	Seq    int64  `json:"seq,omitempty"`
	To     string `json:"to,omitempty"` // transferred: the heir named
	Err    string `json:"err,omitempty"`
}

// process says whose line it is.
func (l line) process() process { return process{l.Member, l.Run} }

// process is one process of one member.
type process struct {
	member string
	run    int
}

func (p process) String() string { return fmt.Sprintf("%s-%d", p.member, p.run) }

const (
	stageLog  = "stage.jsonl"
	logSuffix = ".jsonl"
)

func (p process) log(dir string) string { return filepath.Join(dir, p.String()+logSuffix) }

// journal appends lines to a log file. Each goes out in one write, so that a
// process that is killed loses nothing it has written down.
type journal struct {
	mu     sync.Mutex
	file   *os.File
	mirror func(line) // also told every line; may be nil
}

func newJournal(path string, mirror func(line)) (*journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	return &journal{file: file, mirror: mirror}, nil
}

// write stamps l, unless it carries a moment already, and appends it. A log
// that cannot be written makes the whole run worthless, so the caller has to end
// on an error.
func (j *journal) write(l line) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l.At == 0 {
		l.At = time.Now().UnixNano()
	}
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode log line: %w", err)
	}
	if _, err := j.file.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	if j.mirror != nil {
		j.mirror(l)
	}
	return nil
}

func (j *journal) close() error { return j.file.Close() }

// history is all the evidence of a run.
type history struct {
	ledger  []entry // by sequence
	members []line  // the members' logs, by moment
	stage   []line  // the stage's log, by moment
}

// readHistory reads the ledger and every log back from disk.
func readHistory(ctx context.Context, dir string, l *ledger) (history, error) {
	var h history
	var err error
	if h.ledger, err = l.entries(ctx); err != nil {
		return h, err
	}
	if h.stage, _, err = readLog(filepath.Join(dir, stageLog)); err != nil {
		return h, err
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*"+logSuffix))
	if err != nil {
		return h, fmt.Errorf("list logs: %w", err)
	}
	for _, path := range logs {
		if filepath.Base(path) == stageLog {
			continue
		}
		lines, torn, err := readLog(path)
		if err != nil {
			return h, err
		}
		if torn && !h.killed(path, dir) {
			return h, fmt.Errorf("log %s ends within a line, and its process was not killed", filepath.Base(path))
		}
		h.members = append(h.members, lines...)
	}
	slices.SortStableFunc(h.members, func(a, b line) int { return int(a.At - b.At) })
	return h, nil
}

// killed reports whether the log at path is that of a killed process, the only
// one that may end within a line.
func (h history) killed(path, dir string) bool {
	return slices.ContainsFunc(h.stage, func(l line) bool {
		return l.What == killed && l.process().log(dir) == path
	})
}

// readLog returns the whole lines of a log, and whether it ends within one.
func readLog(path string) (lines []line, torn bool, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, false, fmt.Errorf("read log: %w", err)
	}
	for number := 1; len(text) > 0; number++ {
		row, rest, whole := bytes.Cut(text, []byte{'\n'})
		if !whole {
			return lines, true, nil
		}
		var l line
		if err := json.Unmarshal(row, &l); err != nil {
			return nil, false, fmt.Errorf("read log %s, line %d: %w", filepath.Base(path), number, err)
		}
		lines = append(lines, l)
		text = rest
	}
	return lines, false, nil
}

package arena

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/sqlelect/election/internal/clock"
)

// Now is the moment, in nanoseconds, on a clock that all processes of this machine
// share: the boot clock, which counts the machine's sleep as well and ignores steps
// of the wall clock; the wall clock where there is no boot clock.
func Now() int64 {
	now := clock.System().Read()
	return int64(cmp.Or(now.Boot, now.Wall))
}

// Journal appends lines to a log file. Each goes out in one write, so that a
// process that is killed loses nothing it has written down. It is safe for
// concurrent use.
type Journal struct {
	mu     sync.Mutex
	file   *os.File
	mirror func(Line)
	err    error
}

// StageLog is the name of the stage's log.
const StageLog = "stage.log"

const memberLog = "member-%s.log" // of a process

// NewJournal creates the log at path, which must not exist. The mirror, which may
// be nil, is told every line that was written.
func NewJournal(path string, mirror func(Line)) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	return &Journal{file: file, mirror: mirror}, nil
}

// Write stamps l, unless it carries a moment already, and appends it. Close tells of
// its failure.
func (j *Journal) Write(l Line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l.At = cmp.Or(l.At, Now())
	text, err := json.Marshal(l)
	if err == nil {
		_, err = j.file.Write(append(text, '\n'))
	}
	switch {
	case err != nil:
		j.err = cmp.Or(j.err, fmt.Errorf("write log: %w", err))
	case j.mirror != nil:
		j.mirror(l)
	}
}

// Close closes the log. A line that could not be written makes the whole run
// worthless: then it returns an error.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.err, j.file.Close())
}

// readLogs returns the lines of the stage and those of the members, each log's in
// order. Only the log of a process that the stage has killed may end within a line.
func readLogs(dir string) (stage, members []Line, err error) {
	stage, _, err = readLog(filepath.Join(dir, StageLog))
	if err != nil {
		return nil, nil, err
	}
	killed := map[string]bool{}
	for _, l := range stage {
		if l.What == Killed {
			killed[fmt.Sprintf(memberLog, l.Process())] = true
		}
	}
	logs, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf(memberLog, "*")))
	if err != nil {
		return nil, nil, fmt.Errorf("list logs: %w", err)
	}
	for _, path := range logs {
		lines, torn, err := readLog(path)
		if err != nil {
			return nil, nil, err
		}
		if name := filepath.Base(path); torn && !killed[name] {
			return nil, nil, fmt.Errorf("log %s ends within a line, and its process was not killed", name)
		}
		members = append(members, lines...)
	}
	return stage, members, nil
}

// readLog returns the whole lines of a log, and whether it ends within one.
func readLog(path string) (lines []Line, torn bool, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, false, fmt.Errorf("read log: %w", err)
	}
	for number := 1; len(text) > 0; number++ {
		row, rest, whole := bytes.Cut(text, []byte{'\n'})
		if !whole {
			return lines, true, nil
		}
		var l Line
		if err := json.Unmarshal(row, &l); err != nil {
			return nil, false, fmt.Errorf("read log %s, line %d: %w", filepath.Base(path), number, err)
		}
		lines = append(lines, l)
		text = rest
	}
	return lines, false, nil
}

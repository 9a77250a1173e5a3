package arena

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// writeLog writes a log by a journal.
func writeLog(t *testing.T, path string, lines ...Line) {
	t.Helper()
	j, err := NewJournal(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		j.Write(l)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// logOf is the path of the log of a process of a.
func logOf(dir string, number int) string {
	return Settings{Dir: dir, Process: Process{"a", number}}.log()
}

func appendText(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// emptyRun is a directory with an empty ledger and the given lines of the stage.
func emptyRun(t *testing.T, stage ...Line) (string, *Ledger) {
	t.Helper()
	dir := t.TempDir()
	writeLog(t, dir+"/"+StageLog, stage...)
	return dir, createFile(t)
}

func TestHistoryIsReadBack(t *testing.T) {
	stage := happened(3, Killed, "a", 2)
	first, second, third := happened(1, Entered, "a", 2), happened(2, Entered, "b", 3), happened(4, Exited, "b", 3)
	third.Err, third.Seq, third.To = "why", 7, "c"
	dir, l := emptyRun(t, stage)
	writeLog(t, Settings{Dir: dir, Process: Process{"b", 1}}.log(), second, third)
	writeLog(t, logOf(dir, 1), first)
	appendText(t, logOf(dir, 1)+".stderr", "no log\n")

	h, err := ReadHistory(t.Context(), dir, l)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Line{first, second, third}; !slices.Equal(h.Members, want) {
		t.Errorf("got %v, want %v", h.Members, want)
	}
	if !slices.Equal(h.Stage, []Line{stage}) || len(h.Ledger) != 0 {
		t.Errorf("got stage %v, ledger %v", h.Stage, h.Ledger)
	}
}

func TestJournalStampsAndMirrors(t *testing.T) {
	path := t.TempDir() + "/log"
	var mirrored []Line
	j, err := NewJournal(path, func(l Line) { mirrored = append(mirrored, l) })
	if err != nil {
		t.Fatal(err)
	}
	before := Now()
	j.Write(Line{What: Joined})
	after := Now()
	// Before Close: nothing is kept back in a buffer.
	lines, torn, err := readLog(path)
	if err != nil || torn || !slices.Equal(lines, mirrored) || len(lines) != 1 {
		t.Fatalf("read %v, torn %v, error %v; mirrored %v", lines, torn, err, mirrored)
	}
	if at := lines[0].At; at < before || at > after {
		t.Errorf("stamped %d, written between %d and %d", at, before, after)
	}
	j.file.Close()
	j.Write(Line{What: Joined})
	if err := j.Close(); err == nil || !strings.Contains(err.Error(), "write log") || len(mirrored) != 1 {
		t.Errorf("a line that could not be written: error %v, mirrored %d", err, len(mirrored))
	}
}

func TestJournalIsNeverWrittenTwice(t *testing.T) {
	path := t.TempDir() + "/log"
	writeLog(t, path)
	if _, err := NewJournal(path, nil); err == nil {
		t.Error("a second process took over the log of the first")
	}
}

func TestTornLineOfKilledProcess(t *testing.T) {
	dir, l := emptyRun(t, happened(3, Killed, "a", 2))
	writeLog(t, logOf(dir, 1), happened(1, Entered, "a", 2))
	appendText(t, logOf(dir, 1), `{"at":5,"wh`)
	h, err := ReadHistory(t.Context(), dir, l)
	if err != nil || len(h.Members) != 1 {
		t.Errorf("got %d lines, error %v", len(h.Members), err)
	}
}

func TestTornLineOfAnyOtherProcess(t *testing.T) {
	dir, l := emptyRun(t, happened(3, Killed, "a", 2))
	writeLog(t, logOf(dir, 2)) // its first process was killed, not this one
	appendText(t, logOf(dir, 2), `{"at":5,"wh`)
	if _, err := ReadHistory(t.Context(), dir, l); err == nil || !strings.Contains(err.Error(), "member-a-2.log ends within a line") {
		t.Errorf("got error %v", err)
	}
}

func TestDamagedLog(t *testing.T) {
	dir, l := emptyRun(t)
	writeLog(t, logOf(dir, 1), happened(1, Entered, "a", 2))
	appendText(t, logOf(dir, 1), "nonsense\n")
	if _, err := ReadHistory(t.Context(), dir, l); err == nil || !strings.Contains(err.Error(), "member-a-1.log, line 2") {
		t.Errorf("got error %v", err)
	}
}

func TestHistoryNeedsItsParts(t *testing.T) {
	dir, l := emptyRun(t)
	if _, err := ReadHistory(t.Context(), t.TempDir(), l); err == nil {
		t.Error("a history without the stage's log was read")
	}
	if _, err := ReadHistory(t.Context(), dir, openFile(t)); err == nil {
		t.Error("a history without a ledger was read")
	}
}

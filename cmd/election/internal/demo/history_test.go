package demo

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// writeLog writes a log of dir by a journal.
func writeLog(t *testing.T, path string, lines ...line) {
	t.Helper()
	j, err := newJournal(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	for _, l := range lines {
		if err := j.write(l); err != nil {
			t.Fatal(err)
		}
	}
}

func appendText(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// emptyRun is a directory with an empty ledger and the given lines of the stage.
func emptyRun(t *testing.T, stage ...line) (string, *ledger) {
	t.Helper()
	dir := t.TempDir()
	writeLog(t, dir+"/"+stageLog, stage...)
	return dir, createLedger(t, ownFile(dir))
}

func TestHistoryIsReadBack(t *testing.T) {
	stage := happened(3, killed, "a", 2)
	first, second, third := happened(1, entered, "a", 2), happened(2, entered, "b", 3), happened(4, exited, "b", 3)
	third.Err, third.Seq, third.To = "why", 7, "c"
	dir, l := emptyRun(t, stage)
	writeLog(t, process{"b", 1}.log(dir), second, third)
	writeLog(t, process{"a", 1}.log(dir), first)

	h, err := readHistory(t.Context(), dir, l)
	if err != nil {
		t.Fatal(err)
	}
	if want := []line{first, second, third}; !slices.Equal(h.members, want) {
		t.Errorf("got %v, want %v", h.members, want)
	}
	if !slices.Equal(h.stage, []line{stage}) || len(h.ledger) != 0 {
		t.Errorf("got stage %v, ledger %v", h.stage, h.ledger)
	}
}

func TestJournalStampsAndMirrors(t *testing.T) {
	path := t.TempDir() + "/log"
	var mirrored []line
	j, err := newJournal(path, func(l line) { mirrored = append(mirrored, l) })
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now().UnixNano()
	if err := j.write(line{What: joined}); err != nil {
		t.Fatal(err)
	}
	after := time.Now().UnixNano()
	// Before close: nothing is kept back in a buffer.
	lines, torn, err := readLog(path)
	if err != nil || torn || !slices.Equal(lines, mirrored) || len(lines) != 1 {
		t.Fatalf("read %v, torn %v, error %v; mirrored %v", lines, torn, err, mirrored)
	}
	if at := lines[0].At; at < before || at > after {
		t.Errorf("stamped %d, written between %d and %d", at, before, after)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if err := j.write(line{What: joined}); err == nil || len(mirrored) != 1 {
		t.Errorf("a line that could not be written: error %v, mirrored %d", err, len(mirrored))
	}
}

func TestJournalIsNeverWrittenTwice(t *testing.T) {
	path := t.TempDir() + "/log"
	writeLog(t, path)
	if _, err := newJournal(path, nil); err == nil {
		t.Error("a second process took over the log of the first")
	}
}

func TestTornLineOfKilledProcess(t *testing.T) {
	dir, l := emptyRun(t, happened(3, killed, "a", 2))
	log := process{"a", 1}.log(dir)
	writeLog(t, log, happened(1, entered, "a", 2))
	appendText(t, log, `{"at":5,"wh`)
	h, err := readHistory(t.Context(), dir, l)
	if err != nil || len(h.members) != 1 {
		t.Errorf("got %d lines, error %v", len(h.members), err)
	}
}

func TestTornLineOfAnyOtherProcess(t *testing.T) {
	dir, l := emptyRun(t, happened(3, killed, "a", 2))
	log := process{"a", 2}.log(dir) // its first process was killed, not this one
	writeLog(t, log)
	appendText(t, log, `{"at":5,"wh`)
	if _, err := readHistory(t.Context(), dir, l); err == nil || !strings.Contains(err.Error(), "a-2.jsonl ends within a line") {
		t.Errorf("got error %v", err)
	}
}

func TestDamagedLog(t *testing.T) {
	dir, l := emptyRun(t)
	log := process{"a", 1}.log(dir)
	writeLog(t, log, happened(1, entered, "a", 2))
	appendText(t, log, "nonsense\n")
	if _, err := readHistory(t.Context(), dir, l); err == nil || !strings.Contains(err.Error(), "a-1.jsonl, line 2") {
		t.Errorf("got error %v", err)
	}
}

func TestHistoryNeedsItsParts(t *testing.T) {
	dir, l := emptyRun(t)
	if _, err := readHistory(t.Context(), t.TempDir(), l); err == nil {
		t.Error("a history without the stage's log was read")
	}
	if _, err := readHistory(t.Context(), dir, openLedger(t, ownFile(t.TempDir()))); err == nil {
		t.Error("a history without a ledger was read")
	}
}
